package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"postraft/ops"
)

// loaded parses a command line and loads the rest from an environment and the text of a file.
func loaded(t *testing.T, file string, environ []string, args ...string) (*settings, string, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "postraft.cf")
	if err := os.WriteFile(path, []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
	s := newSettings()
	if err := s.flags.Parse(append([]string{"--config", path}, args...)); err != nil {
		return nil, path, err
	}
	return s, path, s.load(environ)
}

// TestSettings_Precedence ensures that the command line comes before the environment, the environment before
// the file, and the file before the default, each for every kind of value.
func TestSettings_Precedence(t *testing.T) {
	file := "# comment\nvoters = 3\nname = file\njoin = a:1,\n  b:2 c\n\nmax_staleness = 1m\nnonvoter = yes\nlog_level = warn\nproxy_read_maps =\n  proxy:raft:a\n  proxy:raft:b\n"
	environ := []string{"POSTRAFT_NAME=env", "POSTRAFT_VOTERS=7", "POSTRAFT_JOIN=e1,e2", "HOME=/x"}
	text := func(s *settings) string {
		return fmt.Sprintf("%v %v %v %v %v %v %v %v", s.voters, s.name, s.join, s.maxStaleness, s.nonvoter, s.logLevel, strings.Fields(s.readMaps), s.bind)
	}
	for _, tt := range []struct {
		file    string
		environ []string
		args    []string
		want    string
	}{
		{"", nil, []string{"--name=h"}, "5 h [] 0s false INFO [] 0.0.0.0:7950"},
		{file, nil, nil, "3 file [a:1 b:2 c] 1m0s true WARN [proxy:raft:a proxy:raft:b] 0.0.0.0:7950"},
		{file, environ, nil, "7 env [e1 e2] 1m0s true WARN [proxy:raft:a proxy:raft:b] 0.0.0.0:7950"},
		{file, environ, []string{"--voters", "1", "--join", "x", "--join=y,z", "--nonvoter=no", "--bind", "127.0.0.1:1"},
			"1 env [x y z] 1m0s false WARN [proxy:raft:a proxy:raft:b] 127.0.0.1:1"},
		{file, nil, []string{"--nonvoter", "--log-level", "debug", "--max-staleness", "0"}, "3 file [a:1 b:2 c] 0s true DEBUG [proxy:raft:a proxy:raft:b] 0.0.0.0:7950"},
	} {
		s, _, err := loaded(t, tt.file, tt.environ, tt.args...)
		if err != nil {
			t.Errorf("%v: %v", tt.args, err)
			continue
		}
		if got := text(s); got != tt.want {
			t.Errorf("%v\n got %s\nwant %s", tt.args, got, tt.want)
		}
	}
}

// TestSettings_Refused ensures that whatever is wrong is refused with the place where it was said.
func TestSettings_Refused(t *testing.T) {
	for _, tt := range []struct {
		file, environ string
		args          []string
		want          string
	}{
		{"voters = 3\n\n# x\nnosuch = 1\n", "", nil, `FILE line 4: there is no setting "nosuch"`},
		{"data-dir = /x\n", "", nil, `FILE line 1: there is no setting "data-dir"`},
		{"config = /x\n", "", nil, `FILE line 1: there is no setting "config"`},
		{"voters = 3\nvoters\n", "", nil, "FILE line 2: want: name = value"},
		{" voters = 3\n", "", nil, "FILE line 1: want: name = value"},
		{"\nvoters = 0\n", "", nil, "FILE line 2: voters = 0: want a number from 1 on"},
		{"bind = 7950\n", "", nil, "FILE line 1: bind = 7950: want ADDR:PORT"},
		{"bind = a b:7950\n", "", nil, "want an address or a host name"},
		{"gossip = 1.2.3.4:70000\n", "", nil, "want a port"},
		{"nonvoter = perhaps\n", "", nil, "FILE line 1: nonvoter = perhaps: want yes or no"},
		{"max_staleness = 10\n", "", nil, "want a duration"},
		{"heartbeat_timeout = 1ms\n", "", nil, "want a duration from 50ms on"},
		{"log_store = paper\n", "", nil, "want wal, bolt"},
		{"log_level = loud\n", "", nil, "want debug, info, warn, error"},
		{"mail_version = new\n", "", nil, "want a version such as"},
		{"name = a/b\n", "", nil, "want 1 to 64"},
		{"run_dir = /" + strings.Repeat("x", 120) + "\n", "", nil, "would not fit"},
		// A bad value is refused even where another one is used.
		{"voters = many\n", "POSTRAFT_VOTERS=3", []string{"--voters", "3"}, "FILE line 1: voters = many"},
		{"", "POSTRAFT_VOTERS=many", nil, `environment variable POSTRAFT_VOTERS="many": want a number`},
		{"", "", []string{"--voters", "many"}, `invalid argument "many" for "--voters" flag: want a number from 1 on`},
		{"", "", []string{"--nosuch"}, "unknown flag: --nosuch"},
	} {
		_, path, err := loaded(t, tt.file, []string{tt.environ}, tt.args...)
		if err == nil || !strings.Contains(err.Error(), strings.Replace(tt.want, "FILE", path, 1)) {
			t.Errorf("%q %q %v\n got %v\nwant %s", tt.file, tt.environ, tt.args, err, tt.want)
		}
		var e *ops.Error
		if len(tt.args) != 2 && len(tt.args) != 1 && (!errors.As(err, &e) || e.Kind != ops.Config) {
			t.Errorf("%q: %#v is not a configuration error", tt.file, err)
		}
	}
}

// TestSettings_Warnings ensures that what is odd and harmless is told and does not end the start.
func TestSettings_Warnings(t *testing.T) {
	s, path, err := loaded(t, "voters = 3\nvoters = 4\n", []string{"POSTRAFT_SERVICE_HOST=10.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	want := path + " line 2: voters overrides line 1|environment variable POSTRAFT_SERVICE_HOST is no setting of the agent"
	if got := strings.Join(s.warnings, "|"); got != want || s.voters != 4 {
		t.Errorf("got %s, %d voters, want %s", got, s.voters, want)
	}
}

// TestSettings_NoFile ensures that only a file that was asked for must be there.
func TestSettings_NoFile(t *testing.T) {
	s := newSettings()
	if _, errs := s.readFile("/nonexistent/postraft.cf", false); errs != nil {
		t.Errorf("default file that is not there: %v", errs)
	}
	if err := s.load([]string{"POSTRAFT_CONFIG=/nonexistent/postraft.cf"}); err == nil {
		t.Error("named file that is not there: no error")
	}
}

// TestSettings_Reload ensures that a reload keeps the command line, sees the new file, and tells what needs a
// restart.
func TestSettings_Reload(t *testing.T) {
	s, path, err := loaded(t, "voters = 3\nlog_level = info\n", nil, "--name", "h", "--join", "a,b")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("voters = 5\nlog_level = debug\nproxy_read_maps = proxy:raft:x\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	next, err := s.reload(nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%v %v %v %v %v", next.name, next.join, next.voters, next.logLevel, next.readMaps); got != "h [a b] 5 DEBUG proxy:raft:x" {
		t.Errorf("got %s", got)
	}
	if got := fmt.Sprint(s.fixed(next)); got != "[voters]" {
		t.Errorf("settings that need a restart: %s, want [voters]", got)
	}
}

// TestSettings_Take ensures that what a reload has taken over is in the settings with which a node begins anew, and that what
// waits for a restart is still named.
func TestSettings_Take(t *testing.T) {
	s, path, err := loaded(t, "voters = 3\nalias = hash:/a=a\n", nil, "--name", "h", "--join", "a,b")
	if err != nil {
		t.Fatal(err)
	}
	text := "voters = 5\nlog_level = debug\nproxy_read_maps = proxy:raft:x\nproxy_write_maps = proxy:raft:y\napprove_all_raft = yes\npostfix_config = /p\nalias = hash:/b=b\n"
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	next, err := s.reload(nil)
	if err != nil {
		t.Fatal(err)
	}
	s.take(next)
	if got := fmt.Sprintf("%v %v %v %v %v %v", s.logLevel, s.readMaps, s.writeMaps, s.approveRaft, s.postfixConfig, s.aliases); got != "DEBUG proxy:raft:x proxy:raft:y true /p [hash:/b=b]" {
		t.Errorf("taken over: %s", got)
	}
	if again, err := s.reload(nil); err != nil || fmt.Sprint(s.fixed(again)) != "[voters]" || s.voters != 3 {
		t.Errorf("settings that need a restart: %v, voters %d, %v", s.fixed(again), s.voters, err)
	}
	s.flags.VisitAll(func(f *pflag.Flag) { // whatever fixed does not name was taken over
		if f.Name != "voters" && f.Value.String() != next.flags.Lookup(f.Name).Value.String() {
			t.Errorf("%s is %s, want %s", f.Name, f.Value, next.flags.Lookup(f.Name).Value)
		}
	})
}
