package adopt

import (
	"strings"

	"postraft/dict"
)

// A kind says what becomes of tables of a type.
type kind struct {
	database string // what postmap(1) appends to the name of the text
	fixed    bool   // tables of a file with fixed keys
	rules    bool   // tables of a file with rules
	compound bool
	stays    string // why it cannot be shared
	local    bool   // the agent answers for it by itself, in a compound table too
}

// kinds are all types of tables of Postfix.
var kinds = map[string]kind{
	"hash":     {fixed: true, database: ".db"},
	"btree":    {fixed: true, database: ".db"},
	"lmdb":     {fixed: true, database: ".lmdb"},
	"cdb":      {fixed: true, database: ".cdb"},
	"dbm":      {fixed: true, database: ".pag"},
	"sdbm":     {fixed: true, database: ".pag"},
	"texthash": {fixed: true, local: true},
	"cidr":     {rules: true, local: true},
	"regexp":   {rules: true, local: true},
	"pcre":     {rules: true, local: true},
	"unionmap": {compound: true, local: true},
	"pipemap":  {compound: true, local: true},

	"static":   {local: true, stays: inConfiguration},
	"inline":   {local: true, stays: inConfiguration},
	"randmap":  {local: true, stays: inConfiguration},
	"fail":     {local: true, stays: inConfiguration},
	"internal": {stays: "in the memory of one process"},
	"environ":  {stays: "the environment of one process"},

	"unix":    {local: true, stays: "the accounts of this host"},
	"nis":     {stays: atServer},
	"nisplus": {stays: atServer},
	"netinfo": {stays: atServer},

	"ldap": {stays: atServer}, "mysql": {stays: atServer}, "pgsql": {stays: atServer}, "memcache": {stays: atServer},
	"socketmap": {stays: atServer}, "tcp": {stays: atServer}, "mongodb": {stays: atServer},
	"sqlite": {stays: "a database of another kind"},

	dict.RaftType: {local: true, stays: "a raft table already"},
}

const (
	inConfiguration = "in the configuration itself: nothing to share"
	atServer        = "asked of a server, which hosts can share"
	helpPassthrough = "goes on through the stock proxymap(8), if it is proxied"
)

// isTable reports whether type:name is a table, among the many words with a colon that main.cf can hold.
func isTable(typ, name string) bool {
	if typ == "unix" { // also sockets of filters and policy servers
		return name == "passwd.byname" || name == "group.byname"
	}
	_, ok := kinds[typ]
	return ok && name != ""
}

// inName reports whether the rules or entries stand in the name itself.
func inName(name dict.Name) bool { return strings.HasPrefix(name.Map, "{") }

// A rule says what can be in a parameter.
type rule struct {
	stays string // why its tables cannot be shared
	help  string
	cache bool   // a table that daemons write, and that starts empty
	alias bool   // its files have the syntax of aliases(5)
	note  string // for tables that can be shared
}

const (
	helpMirror  = "a mirror can keep the file equal to a raft table: mirror in postraft.cf(5)"
	hostCache   = "a cache of this host"
	callersOwn  = "read by commands that run as their callers, who do not reach proxymap(8)"
	eachLine    = "asked once for each line of each message"
	cleanupHint = "let one relay alone clean it"
)

// rules are the parameters that are not like most.
var rules = map[string]rule{
	"alias_maps":           {stays: "local(8) refuses proxy: here", help: helpMirror, alias: true},
	"mailbox_command_maps": {stays: "local(8) refuses proxy: here", help: helpMirror},
	"virtual_mailbox_maps": {stays: "virtual(8) refuses proxy: here", help: helpMirror}, // see usable
	"virtual_uid_maps":     {stays: "virtual(8) refuses proxy: here", help: helpMirror},
	"virtual_gid_maps":     {stays: "virtual(8) refuses proxy: here", help: helpMirror},

	"authorized_flush_users":  {stays: callersOwn, help: helpMirror},
	"authorized_mailq_users":  {stays: callersOwn, help: helpMirror},
	"authorized_submit_users": {stays: callersOwn, help: helpMirror},
	"local_login_sender_maps": {stays: callersOwn, help: helpMirror},
	"tls_server_sni_maps":     {stays: "made with postmap -F: it holds keys"},

	"address_verify_map":        {cache: true, note: cleanupHint},
	"postscreen_cache_map":      {cache: true, note: cleanupHint},
	"smtp_sasl_auth_cache_name": {cache: true},
	"lmtp_sasl_auth_cache_name": {cache: true},

	"body_checks":      {note: eachLine},
	"smtp_body_checks": {note: eachLine},
	"lmtp_body_checks": {note: eachLine},
}

// lists are parameters that name tables and do not use them.
var lists = map[string]bool{"proxy_read_maps": true, "proxy_write_maps": true, "alias_database": true}

func ruleFor(parameter string) rule {
	if strings.HasSuffix(parameter, "_tls_session_cache_database") || strings.HasSuffix(parameter, "_scache_database") {
		return rule{stays: hostCache}
	}
	return rules[parameter]
}
