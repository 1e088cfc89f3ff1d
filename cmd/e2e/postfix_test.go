package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/template"
	"time"

	"postraft/cluster/clustertest"
	"postraft/proxy"
	"postraft/proxy/master"
)

// An installation is the Postfix that a run tests with: the one of the system or, where E2E_POSTFIX
// names the directory in which another version was built from source, that one.
type installation struct {
	commands string // postfix, postconf, postmap, sendmail
	built    string // the source directory; empty for the system's
}

func installed() installation {
	if dir := os.Getenv("E2E_POSTFIX"); dir != "" {
		return installation{filepath.Join(dir, "bin"), dir}
	}
	return installation{"/usr/sbin", ""}
}

func (i installation) command(name string) string { return filepath.Join(i.commands, name) }

// daemons returns the daemon directory.
func (i installation) daemons(t *testing.T) string {
	t.Helper()
	if i.built != "" {
		return filepath.Join(i.built, "libexec")
	}
	out, err := exec.Command(i.command("postconf"), "-dh", "daemon_directory").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// settings returns what main.cf needs for it.
func (i installation) settings() map[string]string {
	if i.built == "" {
		return map[string]string{"compatibility_level": "3.6"}
	}
	meta := filepath.Join(i.built, "meta")
	if _, err := os.Stat(filepath.Join(meta, "postfix-files")); err != nil {
		meta = filepath.Join(i.built, "conf")
	}
	return map[string]string{
		"compatibility_level": "2", "command_directory": i.commands, "meta_directory": meta,
		"default_database_type": "lmdb", "smtputf8_enable": "yes",
	}
}

// before reports whether it is older than a version.
func (i installation) before(t *testing.T, major, minor int) bool {
	t.Helper()
	out, err := exec.Command(i.command("postconf"), "-dh", "mail_version").Output()
	if err != nil {
		t.Fatal(err)
	}
	return !proxy.AtLeast(strings.TrimSpace(string(out)), major, minor)
}

// needPostfix leaves the test out where there is no Postfix or no right to run one.
func needPostfix(t *testing.T) {
	t.Helper()
	var missing []string
	if os.Getuid() != 0 {
		missing = append(missing, "root")
	}
	if _, err := os.Stat(installed().command("postfix")); err != nil {
		missing = append(missing, "Postfix")
	}
	if len(missing) == 0 {
		return
	}
	what := "NOT RUN: end-to-end test without " + strings.Join(missing, " and ")
	if os.Getenv("CI") == "true" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// within waits for a condition; the last error says what was missing.
func within(t *testing.T, limit time.Duration, what string, ok func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v: %v", what, limit, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// command runs a program and returns what it printed and its exit status.
func command(t *testing.T, stdin string, name string, args ...string) (out string, status int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var both bytes.Buffer
	cmd.Stdout, cmd.Stderr = &both, &both
	// A daemon that the command leaves behind may hold its output open.
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		t.Fatalf("%s %s: no end within 30 s\n%s", name, strings.Join(args, " "), both.String())
	case errors.As(err, &exit):
		return both.String(), exit.ExitCode()
	case err != nil && !errors.Is(err, exec.ErrWaitDelay):
		t.Fatalf("%s: %v", name, err)
	}
	return both.String(), 0
}

// freePort returns a loopback port that belongs to the test until it ends.
func freePort(t *testing.T) int {
	t.Helper()
	return clustertest.FreePorts(t, 1)
}

// A postfix is a private instance. Paths are short: a socket's name has 107 bytes.
type postfix struct {
	t        *testing.T
	dir      string // holds etc, q, d, sbin and the log
	smtp     int    // port of smtpd
	settings map[string]string
	master   masterCF
}

// masterCF is what tests change in master.cf.
type masterCF struct {
	SMTP     int
	Chroot   string // the chroot column of our services
	Options  string // words behind our command
	Limit    string
	Wrapper  string // command of our services
	Extra    string
	SMTPOpts string
	Stock    bool // Postfix's own proxymap(8), as before there was a postraft
}

var masterTemplate = template.Must(template.New("master.cf").Parse(`
127.0.0.1:{{.SMTP}} inet n - n - - smtpd{{.SMTPOpts}}
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
virtual unix - n n - - virtual
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
{{if .Stock -}}
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
{{else -}}
proxymap unix - - {{.Chroot}} - {{.Limit}} {{.Wrapper}}{{.Options}}
  -o passthrough_service=proxymap-local
proxywrite unix - - {{.Chroot}} - 1 {{.Wrapper}}{{.Options}}
  -o passthrough_service=proxywrite-local
proxymap-local unix - - n - - proxymap -n proxymap
proxywrite-local unix - - n - 1 proxymap -n proxywrite
{{end -}}
{{.Extra}}
`))

// newPostfix makes an instance that has not been started. runDir is that of the agent that its front ends
// talk to; sink is the port to which all mail is delivered.
func newPostfix(t *testing.T, runDir string, sink int) *postfix {
	t.Helper()
	dir, err := os.MkdirTemp("", "pf")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := &postfix{t: t, dir: dir, smtp: freePort(t)}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, sub := range []string{"etc", "q", "d", "sbin"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// Some of Postfix's commands write to the log as this user.
	log := filepath.Join(dir, "log")
	if err := os.WriteFile(log, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	owner := lookupAccount(t, "postfix")
	owner.own(t, log)
	owner.own(t, filepath.Join(dir, "d"))
	if err := os.CopyFS(filepath.Join(dir, "sbin"), os.DirFS(installed().daemons(t))); err != nil {
		t.Fatal(err)
	}
	copyFile(t, program(t, "postraft-proxymap"), filepath.Join(dir, "sbin/postraft-proxymap"))
	relay := fmt.Sprintf("smtp:[127.0.0.1]:%d", sink)
	p.settings = map[string]string{
		"queue_directory":                     filepath.Join(dir, "q"),
		"data_directory":                      filepath.Join(dir, "d"),
		"daemon_directory":                    filepath.Join(dir, "sbin"),
		"maillog_file":                        filepath.Join(dir, "log"),
		"maillog_file_prefixes":               os.TempDir(),
		"inet_interfaces":                     "127.0.0.1",
		"inet_protocols":                      "ipv4",
		"myhostname":                          "mx.local.test",
		"mydestination":                       "local.test",
		"mynetworks":                          "127.0.0.0/8",
		"local_recipient_maps":                "proxy:unix:passwd.byname",
		"alias_maps":                          "",
		"virtual_alias_domains":               "alias.test",
		"virtual_alias_maps":                  "proxy:raft:virtual",
		"relay_domains":                       "relay.test",
		"relay_recipient_maps":                "proxy:raft:recipients",
		"smtpd_sender_restrictions":           "check_sender_access proxy:raft:senders",
		"relocated_maps":                      "proxy:raft:relocated",
		"proxy_write_maps":                    "proxy:raft:virtual proxy:raft:cache proxy:raft:made",
		"default_transport":                   relay,
		"relay_transport":                     relay,
		"local_transport":                     relay,
		"smtp_tls_security_level":             "none",
		"smtpd_client_connection_rate_limit":  "0",
		"smtpd_client_connection_count_limit": "0",
		"smtpd_peername_lookup":               "no",
		"disable_dns_lookups":                 "yes",
		"smtpd_delay_open_until_valid_rcpt":   "no",
		"minimal_backoff_time":                "2s",
		"maximal_backoff_time":                "2s",
		"queue_run_delay":                     "2s",
		"smtp_connection_cache_on_demand":     "no",
	}
	maps.Copy(p.settings, installed().settings())
	p.master = masterCF{SMTP: p.smtp, Chroot: "n", Limit: "1", Wrapper: "postraft-proxymap", Options: " --run-dir " + runDir}
	return p
}

// An account is a user of the system.
type account struct{ uid, gid uint32 }

func lookupAccount(t *testing.T, name string) account {
	t.Helper()
	found, err := master.LookupAccount(name)
	if err != nil {
		t.Fatal(err)
	}
	return account{uint32(found.UID), uint32(found.GID)}
}

// own gives a file to the user.
func (a account) own(t *testing.T, path string) {
	t.Helper()
	if err := os.Chown(path, int(a.uid), int(a.gid)); err != nil {
		t.Fatal(err)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o755); err != nil {
		t.Fatal(err)
	}
}

// config is the instance's configuration directory.
func (p *postfix) config() string { return filepath.Join(p.dir, "etc") }

// configure writes main.cf and master.cf.
func (p *postfix) configure() {
	p.t.Helper()
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(p.settings)) {
		fmt.Fprintf(&text, "%s = %s\n", name, p.settings[name])
	}
	if err := os.WriteFile(filepath.Join(p.config(), "main.cf"), []byte(text.String()), 0o644); err != nil {
		p.t.Fatal(err)
	}
	var services strings.Builder
	if err := masterTemplate.Execute(&services, p.master); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(p.config(), "master.cf"), []byte(services.String()), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// start starts the instance and sees to it that it ends with the test.
func (p *postfix) start() {
	p.t.Helper()
	p.configure()
	p.t.Cleanup(func() {
		if p.t.Failed() {
			log, _ := os.ReadFile(filepath.Join(p.dir, "log"))
			p.t.Logf("Postfix's log:\n%s", tail(string(log), 120))
		}
		// The test's context has ended by now.
		exec.Command(installed().command("postfix"), "-c", p.config(), "stop").Run()
	})
	p.control("start")
	p.ready()
}

// control runs postfix(1).
func (p *postfix) control(verb string) {
	p.t.Helper()
	if out, status := command(p.t, "", installed().command("postfix"), "-c", p.config(), verb); status != 0 {
		p.t.Fatalf("postfix %s: exit status %d\n%s\n%s", verb, status, out, p.log())
	}
}

// ready waits until smtpd takes connections.
func (p *postfix) ready() {
	p.t.Helper()
	within(p.t, 10*time.Second, "smtpd", func() error {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", p.smtp))
		if err == nil {
			conn.Close()
		}
		return err
	})
}

// log returns the instance's mail log.
func (p *postfix) log() string {
	text, err := os.ReadFile(filepath.Join(p.dir, "log"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		p.t.Fatal(err)
	}
	return string(text)
}

// logged waits for a line that has all words.
func (p *postfix) logged(words ...string) {
	p.t.Helper()
	within(p.t, 10*time.Second, "log line with "+strings.Join(words, ", "), func() error {
		for line := range strings.Lines(p.log()) {
			if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
				return nil
			}
		}
		return errors.New("no such line")
	})
}

// quiet fails the test if the log has a line with the words.
func (p *postfix) quiet(words ...string) {
	p.t.Helper()
	for line := range strings.Lines(p.log()) {
		for _, w := range words {
			if strings.Contains(line, w) {
				p.t.Errorf("unwelcome log line: %s", line)
			}
		}
	}
}

// postmap runs postmap(1) on a proxied table.
func (p *postfix) postmap(flag, key, table string) (string, int) {
	p.t.Helper()
	return command(p.t, "", installed().command("postmap"), "-c", p.config(), flag, key, "proxy:"+table)
}

// client returns a client of one of the instance's private services.
func (p *postfix) client(service string) *client {
	p.t.Helper()
	c := newClient(filepath.Join(p.dir, "q/private", service))
	c.silent = installed().before(p.t, 3, 6)
	return c
}

func tail(text string, lines int) string {
	all := strings.SplitAfter(text, "\n")
	return strings.Join(all[max(0, len(all)-lines):], "")
}
