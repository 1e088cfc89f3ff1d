package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A sqlServer is a PostgreSQL of the test's own, which listens on a socket in its directory and runs as an
// unprivileged user.
type sqlServer struct {
	t       *testing.T
	bin     string
	dir     string
	account account
	cmd     *exec.Cmd
	log     bytes.Buffer
}

// needSQL leaves the test out where there is no SQL server, or no Postfix that can ask one.
func needSQL(t *testing.T) (bin string) {
	t.Helper()
	needPostfix(t)
	var missing []string
	types, _ := command(t, "", installed().command("postconf"), "-m")
	for _, typ := range []string{"lmdb", "sqlite", "pgsql"} {
		if !slices.Contains(strings.Fields(types), typ) {
			missing = append(missing, "Postfix's "+typ)
		}
	}
	if _, err := exec.LookPath("sqlite3"); err != nil {
		missing = append(missing, "sqlite3")
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		missing = append(missing, "PostgreSQL")
	}
	if len(missing) > 0 {
		what := "NOT RUN: passthrough without " + strings.Join(missing, " and ")
		if os.Getenv("CI") == "true" {
			t.Fatal(what)
		}
		t.Skip(what)
	}
	return filepath.Dir(found[len(found)-1])
}

func newSQLServer(t *testing.T, bin string) *sqlServer {
	t.Helper()
	dir, err := os.MkdirTemp("", "pg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &sqlServer{t: t, bin: bin, dir: dir, account: lookupAccount(t, "nobody")}
	s.account.own(t, dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := s.as("initdb", "-D", s.data(), "-N", "-A", "trust", "--locale=C", "-E", "UTF8", "-U", "mail")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		if s.cmd != nil {
			s.stop()
		}
	})
	s.start()
	return s
}

func (s *sqlServer) data() string { return filepath.Join(s.dir, "data") }

// as is one of its programs, run as its user.
func (s *sqlServer) as(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: s.account.uid, Gid: s.account.gid}}
	return cmd
}

func (s *sqlServer) start() {
	s.t.Helper()
	s.cmd = s.as("postgres", "-D", s.data(), "-k", s.dir, "-c", "listen_addresses=", "-c", "fsync=off", "-c", "shared_buffers=1MB", "-c", "max_connections=10")
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	within(s.t, 20*time.Second, "the SQL server", func() error {
		out, err := s.as("psql", "-h", s.dir, "-U", "mail", "-c", "SELECT 1", "postgres").CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

// stop ends it at once, whoever is connected.
func (s *sqlServer) stop() {
	s.t.Helper()
	s.cmd.Process.Signal(syscall.SIGINT)
	s.cmd.Wait()
	s.cmd = nil
}

func (s *sqlServer) run(statements string) {
	s.t.Helper()
	if out, err := s.as("psql", "-h", s.dir, "-U", "mail", "-v", "ON_ERROR_STOP=1", "-c", statements, "postgres").CombinedOutput(); err != nil {
		s.t.Fatalf("psql: %v: %s", err, out)
	}
}

// newAgent makes an agent that is a cluster of its own and may enter Postfix's directories.
func newAgent(t *testing.T, args ...string) *node {
	t.Helper()
	dir, err := os.MkdirTemp("", "pa")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	n := &node{t: t, name: "n1", dir: dir, account: lookupAccount(t, "postfix")}
	n.account.own(t, dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	n.args = append([]string{"agent", "--name", n.name, "--data-dir", filepath.Join(dir, "data"), "--run-dir", n.runDir(), "--http", "",
		"--bind", fmt.Sprintf("127.0.0.1:%d", freePort(t)), "--gossip", fmt.Sprintf("127.0.0.1:%d", freePort(t)),
		"--secret-file", newSecret(t, dir, n.account), "--bootstrap-expect", "1"}, args...)
	t.Cleanup(n.discard)
	return n
}

// TestPassthrough ensures that tables which the agent does not answer are answered by the stock proxymap(8), behind
// the front end and behind the agent's own sockets, alone and beside raft tables inside others; that an SQL server that
// is away means "try again later"; and that a table whose file is another one is asked anew.
func TestPassthrough(t *testing.T) {
	bin := needSQL(t)
	n := newAgent(t)
	p := newPostfix(t, n.runDir(), 25)
	write := func(name, text string) string {
		path := filepath.Join(p.dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	server := newSQLServer(t, bin)
	server.run("CREATE TABLE t (k text PRIMARY KEY, v text); INSERT INTO t VALUES ('a', 'from pgsql'), ('two', 'b')")
	pgsql := "pgsql:" + write("pgsql.cf", "hosts = unix:"+server.dir+"\nuser = mail\ndbname = postgres\nquery = SELECT v FROM t WHERE k = '%s'\n")
	database := filepath.Join(p.dir, "sqlite.db")
	if out, status := command(t, "", "sqlite3", database, "CREATE TABLE t (k, v); INSERT INTO t VALUES ('a', 'from sqlite')"); status != 0 {
		t.Fatalf("sqlite3: %s", out)
	}
	sqlite := "sqlite:" + write("sqlite.cf", "dbpath = "+database+"\nquery = SELECT v FROM t WHERE k = '%s'\n")
	lmdb, hash := "lmdb:"+write("lmdb", "a from lmdb\n"), "hash:"+write("hash", "a from hash\n")
	p.configure()
	postmap := func(tables ...string) {
		t.Helper()
		if out, status := command(t, "", installed().command("postmap"), append([]string{"-c", p.config()}, tables...)...); status != 0 {
			t.Fatalf("postmap: %s", out)
		}
	}
	postmap(lmdb, hash)
	union, pipe, unlisted := "unionmap:{raft:virtual,"+lmdb+"}", "pipemap:{raft:virtual "+pgsql+"}", "unionmap:{raft:virtual hash:"+p.dir+"/x}"
	tables := []string{lmdb, hash, sqlite, pgsql, union, pipe, unlisted}
	p.settings["proxy_read_maps"] = "{ proxy:" + strings.Join(tables, " }, { proxy:") + " }, $virtual_alias_maps, $relay_recipient_maps, $smtpd_sender_restrictions, $relocated_maps, $local_recipient_maps"
	p.start()
	n.args = append(n.args, "--postfix-config", p.config(), "--proxymap-socket", n.socket("proxymap"), "--passthrough-read", filepath.Join(p.dir, "q/private/proxymap-local"))
	n.start()
	n.ready(1)
	n.must("a one\nk two\nstray nothing\n", "table", "import", "virtual", "-")

	direct, front := newClient(n.socket("proxymap")), p.client("proxymap")
	defer direct.close()
	defer front.close()
	patience := 5 * time.Second
	answers := func(table, key, wantStatus, wantValue string) {
		t.Helper()
		for name, c := range map[string]*client{"direct": direct, "front end": front} {
			within(t, patience, name+": "+table+" "+key, func() error {
				status, value, err := c.lookup(table, key)
				if err != nil || status != wantStatus || value != wantValue {
					return fmt.Errorf("status %s, value %q, %v; want %s, %q", status, value, err, wantStatus, wantValue)
				}
				return nil
			})
		}
	}
	for _, table := range []string{lmdb, hash, sqlite, pgsql} {
		typ, _, _ := strings.Cut(table, ":")
		if out, status := p.postmap("-q", "a", table); out != "from "+typ+"\n" || status != 0 {
			t.Errorf("postmap -q a %s: %q, exit status %d", table, out, status)
		}
		answers(table, "a", ok, "from "+typ)
		answers(table, "nobody", noKey, "")
	}
	answers(union, "a", ok, "one,from lmdb")
	answers(union, "K", ok, "two")
	answers(pipe, "k", ok, "b")
	answers(pipe, "stray", noKey, "")
	answers(unlisted, "k", retry, "")
	n.mu.Lock()
	if want := "list proxy:hash:" + p.dir + "/x in main.cf:proxy_read_maps"; !strings.Contains(n.log.String(), want) {
		t.Errorf("the agent's log does not say %q", want)
	}
	n.mu.Unlock()

	server.stop()
	answers(pgsql, "a", retry, "")
	answers(pipe, "k", retry, "")
	answers(pipe, "nobody", noKey, "") // said by the raft table alone
	answers(sqlite, "a", ok, "from sqlite")
	server.start()
	p.control("reload") // Postfix itself leaves a server that has failed alone for a minute
	answers(pgsql, "a", ok, "from pgsql")
	answers(pipe, "k", ok, "b")
	p.quiet("panic:", "throttling")

	// The stock service looks for another file only when a connection comes.
	answers(hash, "a", ok, "from hash") // of whichever process answers now
	next := write("next", "a from the new hash\n")
	postmap("hash:" + next)
	if err := os.Rename(next+".db", strings.TrimPrefix(hash, "hash:")+".db"); err != nil {
		t.Fatal(err)
	}
	patience = 15 * time.Second // a connection is used for five
	answers(hash, "a", ok, "from the new hash")
}
