package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"postraft/cluster/store"
	"postraft/dict"
	"postraft/ops"
)

// settings are the settings of an agent.
type settings struct {
	config  string
	name    string
	dataDir string
	runDir  string

	bind            string
	gossip          string
	advertise       string
	join            []string
	bootstrapExpect int
	nonvoter        bool
	voters          int
	secretFile      string
	tlsCert         string
	tlsKey          string
	tlsCA           string
	logStore        string
	heartbeat       time.Duration
	maxStaleness    time.Duration
	deadAfter       time.Duration
	checkEvery      time.Duration
	reset           bool
	checkConfig     bool

	snapshotDir   string
	snapshotEvery time.Duration
	snapshotKeep  int

	proxymapSockets   []string
	proxywriteSockets []string
	readMaps          string
	writeMaps         string
	approveRaft       bool
	aliases           []string
	watchFiles        []string
	mirrors           []string
	watchMaxChange    string
	passthroughRead   string
	passthroughWrite  string
	postfixConfig     string
	mailVersion       string

	http string

	logLevel  slog.Level
	logFormat string
	syslog    bool

	flags    *pflag.FlagSet
	origin   map[string]string // where a setting comes from, by name of the flag; not there: it is the default
	warnings []string          // about the configuration, for the log
}

// A setting is one flag. parse checks a value and returns what puts it in place.
type setting struct {
	kind  string
	parse func(text string) (apply func(), err error)
	text  func() string
}

// String, Set and Type implement pflag.Value.
func (s *setting) String() string {
	if s.text == nil {
		return ""
	}
	return s.text()
}
func (s *setting) Type() string { return s.kind }
func (s *setting) Set(text string) error {
	apply, err := s.parse(text)
	if err == nil {
		apply()
	}
	return err
}

// newSettings returns the defaults, and the flags that change them.
func newSettings() *settings {
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	host, _, _ = strings.Cut(host, ".")
	s := &settings{
		name: host, dataDir: "/var/lib/postraft", runDir: defaultRunDir, bind: "0.0.0.0:7950", gossip: "0.0.0.0:7951", voters: 5,
		secretFile: "/etc/postraft/secret", logStore: store.WAL, heartbeat: 500 * time.Millisecond, deadAfter: 10 * time.Minute, checkEvery: time.Minute,
		snapshotEvery: time.Hour, snapshotKeep: 24, http: "127.0.0.1:7952", logFormat: "text",
		origin: map[string]string{}, flags: pflag.NewFlagSet("agent", pflag.ContinueOnError),
	}
	s.register()
	return s
}

func (s *settings) register() {
	f := s.flags
	f.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "every" || name == "keep" {
			name = "snapshot-" + name
		}
		return pflag.NormalizedName(name)
	})
	text := func(name string, to *string, kind, usage string, check func(string) error) {
		f.Var(&setting{kind, func(v string) (func(), error) {
			if check != nil {
				if err := check(v); err != nil {
					return nil, err
				}
			}
			return func() { *to = v }, nil
		}, func() string { return *to }}, name, usage)
	}
	list := func(name string, to *[]string, kind, usage string) {
		f.Var(&setting{kind, func(v string) (func(), error) {
			words := dict.Words(v)
			return func() { *to = append(*to, words...) }, nil
		}, func() string { return strings.Join(*to, ",") }}, name, usage)
	}
	number := func(name string, to *int, least int, usage string) {
		f.Var(&setting{"N", func(v string) (func(), error) {
			n, err := strconv.Atoi(v)
			if err != nil || n < least {
				return nil, fmt.Errorf("want a number from %d on", least)
			}
			return func() { *to = n }, nil
		}, func() string { return strconv.Itoa(*to) }}, name, usage)
	}
	duration := func(name string, to *time.Duration, least time.Duration, usage string) {
		f.Var(&setting{"DURATION", func(v string) (func(), error) {
			d, err := time.ParseDuration(v)
			if v == "0" {
				d, err = 0, nil
			}
			if err != nil || d < least {
				return nil, fmt.Errorf("want a duration from %v on, such as 500ms, 10s, 2m", least)
			}
			return func() { *to = d }, nil
		}, func() string { return to.String() }}, name, usage)
	}
	yes := func(name string, to *bool, usage string) {
		f.VarPF(&setting{"yes|no", func(v string) (func(), error) {
			b, err := parseBool(v)
			return func() { *to = b }, err
		}, func() string { return strconv.FormatBool(*to) }}, name, "", usage).NoOptDefVal = "yes"
	}
	text("config", &s.config, "FILE", "configuration file (default "+defaultConfigFile+" if there)", nil)
	text("name", &s.name, "NAME", "the node's name, unique in the cluster", checkNodeName)
	text("data-dir", &s.dataDir, "DIR", "raft log, votes, snapshots, node id", notEmpty)
	text("run-dir", &s.runDir, "DIR", "admin.sock and handoff.sock", checkRunDir)
	text("bind", &s.bind, "ADDR:PORT", "raft and node-to-node requests: TCP, mutual TLS", checkAddress)
	text("gossip", &s.gossip, "ADDR:PORT", "memberlist, TCP and UDP, encrypted", checkAddress)
	text("advertise", &s.advertise, "ADDR", "address the other nodes use (default chosen from the interfaces)", checkHost)
	list("join", &s.join, "HOST[:PORT]", "gossip address of any member, retried until it works; repeatable")
	number("bootstrap-expect", &s.bootstrapExpect, 0, "form a new cluster once `N` such nodes see each other; 1 forms it alone")
	yes("nonvoter", &s.nonvoter, "a read replica: never votes")
	number("voters", &s.voters, 1, "how many voters the cluster keeps")
	text("secret-file", &s.secretFile, "FILE", "the cluster secret (postraft keygen)", notEmpty)
	text("tls-cert", &s.tlsCert, "FILE", "the operator's certificate for this node, instead of one made from the secret; with --tls-key and --tls-ca", nil)
	text("tls-key", &s.tlsKey, "FILE", "the key of that certificate", nil)
	text("tls-ca", &s.tlsCA, "FILE", "the CA of all nodes' certificates", nil)
	text("log-store", &s.logStore, "wal|bolt", "where the raft log is kept", oneOf(store.WAL, store.Bolt))
	duration("heartbeat-timeout", &s.heartbeat, 50*time.Millisecond, "how long a follower waits for its leader; at least three times the longest round trip")
	duration("max-staleness", &s.maxStaleness, 0, "answer RETRY to lookups after so long without a leader; 0 is never")
	duration("dead-after", &s.deadAfter, time.Second, "a voter that is silent for so long loses its vote to a stand-by, if there is one")
	duration("check-every", &s.checkEvery, time.Second, "how often the leader compares the digests of all nodes")
	text("snapshot-dir", &s.snapshotDir, "DIR", "save snapshots there by itself while this node leads (default no)", nil)
	duration("snapshot-every", &s.snapshotEvery, time.Second, "how often, if anything has changed")
	number("snapshot-keep", &s.snapshotKeep, 1, "how many of them to keep")
	yes("reset", &s.reset, "discard this node's data and take it from the cluster again; on the command line only")
	yes("check-config", &s.checkConfig, "check the configuration, print what is in effect, and start nothing; on the command line only")
	list("proxymap-socket", &s.proxymapSockets, "PATH", "serve proxymap there, without master(8); repeatable")
	list("proxywrite-socket", &s.proxywriteSockets, "PATH", "serve proxywrite there, without master(8); repeatable")
	text("proxy-read-maps", &s.readMaps, "LIST", "tables approved on the proxymap sockets (default Postfix's own)", nil)
	text("proxy-write-maps", &s.writeMaps, "LIST", "tables approved on the proxywrite sockets (default Postfix's own)", nil)
	yes("approve-all-raft", &s.approveRaft, "approve every raft table on the sockets")
	f.Var(&setting{"TABLE=TYPE:PATH", func(v string) (func(), error) {
		words := dict.Words(v)
		return func() { s.mirrors = append(s.mirrors, words...) }, checkMirrors(words)
	}, func() string { return strings.Join(s.mirrors, ",") }}, "mirror", "keep the local Postfix table TYPE:PATH equal to the raft table TABLE; repeatable")
	f.Var(&setting{"TYPE:NAME=TABLE", func(v string) (func(), error) {
		words := dict.Words(v)
		return func() { s.aliases = append(s.aliases, words...) }, checkAliases(words)
	}, func() string { return strings.Join(s.aliases, ",") }}, "alias", "answer for the table TYPE:NAME from the raft table TABLE; repeatable")
	f.Var(&setting{"[TYPE:]TABLE=FILE", func(v string) (func(), error) {
		words := dict.Words(v)
		for _, w := range words {
			if _, err := parseWatchFile(w); err != nil {
				return nil, err
			}
		}
		return func() { s.watchFiles = append(s.watchFiles, words...) }, nil
	}, func() string { return strings.Join(s.watchFiles, ",") }}, "watch-file", "import FILE into the raft table TABLE, of TYPE where it is new (default hash), and again whenever it changes; repeatable")
	text("watch-max-change", &s.watchMaxChange, "P%", "do not import a file that would change or remove more than this part of its table (default no limit)", func(v string) error {
		_, err := percent(v, false)
		return err
	})
	text("passthrough-read", &s.passthroughRead, "SOCKET", "the stock proxymap(8), for local tables on the proxymap sockets", nil)
	text("passthrough-write", &s.passthroughWrite, "SOCKET", "the stock proxywrite, for local tables on the proxywrite sockets", nil)
	text("postfix-config", &s.postfixConfig, "DIR", "the Postfix instance to ask (default postconf's own)", nil)
	text("mail-version", &s.mailVersion, "V", "Postfix version that decides the dialect of the sockets (default the installed one's, else 3.7)", checkMailVersion)
	text("http", &s.http, "ADDR:PORT", "/metrics, /livez, /readyz and a page for a person; empty is off", func(v string) error {
		if v == "" {
			return nil
		}
		return checkAddress(v)
	})
	f.Var(&setting{"LEVEL", func(v string) (func(), error) {
		var l slog.Level
		if err := oneOf("debug", "info", "warn", "error")(v); err != nil {
			return nil, err
		}
		return func() { s.logLevel = l }, l.UnmarshalText([]byte(v))
	}, func() string { return strings.ToLower(s.logLevel.String()) }}, "log-level", "debug, info, warn, error")
	text("log-format", &s.logFormat, "text|json", "how log lines look", oneOf("text", "json"))
	yes("syslog", &s.syslog, "log to the mail facility of syslog instead of standard error")
}

func configError(format string, args ...any) *ops.Error {
	return ops.Errorf(ops.Config, format, args...)
}

func parseBool(v string) (bool, error) {
	switch strings.ToLower(v) {
	case "yes", "true", "on", "1":
		return true, nil
	case "no", "false", "off", "0":
		return false, nil
	}
	return false, errors.New("want yes or no")
}

func notEmpty(v string) error {
	if v == "" {
		return errors.New("it must not be empty")
	}
	return nil
}

func checkNodeName(v string) error {
	if len(v) > 64 || dict.CheckTableName(v) != nil {
		return errors.New("want 1 to 64 of A-Z a-z 0-9 . _ -")
	}
	return nil
}

// checkRunDir sees to it that the sockets fit into a socket address.
func checkRunDir(v string) error {
	const most = 107 - len("/"+handoffSocket)
	if len(v) > most {
		return fmt.Errorf("longer than %d bytes: the paths of its sockets would not fit", most)
	}
	return notEmpty(v)
}

func checkAddress(v string) error {
	host, port, err := net.SplitHostPort(v)
	if err != nil {
		return errors.New("want ADDR:PORT")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return errors.New("want a port from 1 to 65535")
	}
	return checkHost(host)
}

func checkHost(v string) error {
	if strings.ContainsAny(v, " \t/,[]") {
		return errors.New("want an address or a host name")
	}
	return nil
}

func oneOf(words ...string) func(string) error {
	return func(v string) error {
		for _, w := range words {
			if v == w {
				return nil
			}
		}
		return fmt.Errorf("want %s", strings.Join(words, ", "))
	}
}

func checkMailVersion(v string) error {
	if !regexp.MustCompile(`^[0-9]+\.[0-9]+([.-].*)?$`).MatchString(v) {
		return errors.New("want a version such as 3.7.11")
	}
	return nil
}

// cut parts a setting that gives something to a table at the first or last "=". White space around that can only be there
// where the whole stood in braces.
func cut(word string, index func(string, string) int) (before, after string, ok bool) {
	at := index(word, "=")
	if at < 0 {
		return word, "", false
	}
	return strings.TrimSpace(word[:at]), strings.TrimSpace(word[at+1:]), true
}
