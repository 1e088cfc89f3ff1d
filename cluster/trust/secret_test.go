package trust_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"postraft/cluster/trust"
)

func secretFile(t *testing.T, content string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestReadSecretFile ensures that a file's secrets are read in their order, and that what cannot be used is
// refused with what to do.
func TestReadSecretFile(t *testing.T) {
	a, b := trust.NewSecret(), trust.NewSecret()
	for _, c := range []struct {
		name, content string
		mode          os.FileMode
		want          []string
		refused       string
	}{
		{"one", a, 0o640, []string{a}, ""},
		{"two with comments", "# in use\n\n  " + a + "  \r\n# next\n" + b + "\n", 0o600, []string{a, b}, ""},
		{"words", "correct horse battery staple and more\n", 0o600, []string{"correct horse battery staple and more"}, ""},
		{"others may read", a, 0o644, nil, "chmod o= "},
		{"short", "short", 0o600, nil, "line 1 has 5 characters"},
		{"second is short", a + "\nshort\n", 0o600, nil, "line 2"},
		{"twice", a + "\n" + a, 0o600, nil, "line 2 repeats"},
		{"comment behind", a + " # in use", 0o600, nil, "a line of its own"},
		{"only comments", "# nothing\n", 0o600, nil, "keygen"},
		{"many", strings.Repeat(a, 1) + lines(trust.MaxSecrets), 0o600, nil, "at most 8"},
		{"large", strings.Repeat("#\n", 40<<10), 0o600, nil, "longer"},
	} {
		path := secretFile(t, c.content, c.mode)
		got, err := trust.ReadSecretFile(path)
		if c.refused == "" && (err != nil || strings.Join(got, "|") != strings.Join(c.want, "|")) {
			t.Errorf("%s: %v", c.name, err)
		}
		if c.refused != "" && (!errors.Is(err, trust.ErrSecret) || !strings.Contains(err.Error(), c.refused)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.refused)
		}
		if err != nil && (strings.Contains(err.Error(), a) || strings.Contains(err.Error(), "short") && c.name == "short" && strings.Contains(err.Error(), `"short"`)) {
			t.Errorf("%s: the message tells a secret: %v", c.name, err)
		}
	}
	if _, err := trust.ReadSecretFile(filepath.Join(t.TempDir(), "x")); !errors.Is(err, trust.ErrSecret) || !strings.Contains(err.Error(), "keygen") {
		t.Errorf("missing: %v", err)
	}
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := trust.ReadSecretFile(pipe); !errors.Is(err, trust.ErrSecret) {
		t.Errorf("pipe: %v", err)
	}
}

func lines(n int) string {
	var b strings.Builder
	for range n {
		b.WriteString("\n" + trust.NewSecret())
	}
	return b.String()
}

// TestSecrets_AreNotPrinted ensures that no way of printing shows more than fingerprints.
func TestSecrets_AreNotPrinted(t *testing.T) {
	s := trust.Secrets{trust.NewSecret(), trust.NewSecret()}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "s", s)
	for _, text := range []string{fmt.Sprint(s), fmt.Sprintf("%v %+v %#v %s %q", s, s, s, s, s), log.String()} {
		if strings.Contains(text, s[0]) || strings.Contains(text, s[1]) || !strings.Contains(text, s.Fingerprints()[1]) {
			t.Errorf("printed: %s", text)
		}
	}
}

// TestEditFile ensures that a secret file is changed in one step, keeps its comments, mode and owner, stays a link
// where it is one, and that a refused change leaves it alone.
func TestEditFile(t *testing.T) {
	a, b := trust.NewSecret(), trust.NewSecret()
	path := secretFile(t, "# the cluster of mx\n"+a+"\n# next\n"+b, 0o640)
	if os.Geteuid() == 0 {
		if err := os.Chown(path, 1, 2); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	want := func(what, content string) {
		t.Helper()
		if got, err := os.ReadFile(path); err != nil || string(got) != content {
			t.Errorf("%s: %d bytes, %v", what, len(got), err)
		}
		info, err := os.Lstat(path)
		if err != nil || info.Mode() != 0o640 {
			t.Errorf("%s: %v %v", what, info.Mode(), err)
		}
		if stat := info.Sys().(*syscall.Stat_t); os.Geteuid() == 0 && (stat.Uid != 1 || stat.Gid != 2) {
			t.Errorf("%s: owner %d:%d", what, stat.Uid, stat.Gid)
		}
		if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".secret.*")); left != nil {
			t.Errorf("%s: %v is left", what, left)
		}
	}
	if err := trust.UseInFile(link, trust.Fingerprint(b)); err != nil {
		t.Error(err)
	}
	want("use", "# the cluster of mx\n"+b+"\n"+a+"\n# next\n")
	if err := trust.RemoveFromFile(link, trust.Fingerprint(b)); !errors.Is(err, trust.ErrInUse) {
		t.Errorf("remove the one in use: %v", err)
	}
	if err := trust.UseInFile(link, "0123456789abcdef"); !errors.Is(err, trust.ErrUnknownKey) {
		t.Errorf("use an unknown one: %v", err)
	}
	if err := trust.RemoveFromFile(link, trust.Fingerprint(a)); err != nil {
		t.Error(err)
	}
	want("remove", "# the cluster of mx\n"+b+"\n# next\n")
	added, err := trust.AddToFile(link)
	if err != nil {
		t.Fatal(err)
	}
	s, err := trust.ReadSecretFile(path)
	if err != nil || len(s) != 2 || s[0] != b || s.Fingerprints()[1] != added {
		t.Errorf("add: %v %v", s, err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode().Type() != os.ModeSymlink {
		t.Errorf("link: %v", err)
	}
	if _, err := trust.AddToFile(path + "x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("add to no file: %v", err)
	}
}

// TestEditFile_AtOnce ensures that editors do not undo each other's changes.
func TestEditFile_AtOnce(t *testing.T) {
	path := secretFile(t, trust.NewSecret(), 0o600)
	var editing sync.WaitGroup
	for range trust.MaxSecrets - 1 {
		editing.Go(func() {
			if _, err := trust.AddToFile(path); err != nil {
				t.Error(err)
			}
		})
	}
	editing.Wait()
	if s, err := trust.ReadSecretFile(path); err != nil || len(s) != trust.MaxSecrets {
		t.Errorf("%v %v", s, err)
	}
	if _, err := trust.AddToFile(path); !errors.Is(err, trust.ErrSecret) {
		t.Errorf("one too many: %v", err)
	}
}
