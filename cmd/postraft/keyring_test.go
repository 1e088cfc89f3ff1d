package main

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"postraft/cluster/clustertest"
	"postraft/cluster/trust"
	"postraft/cluster/trust/trusttest"
)

// TestKeyring replaces the secret of an agent as an operator does, and ensures that no output tells a secret.
func TestKeyring(t *testing.T) {
	n := startAgent(t)
	file := filepath.Join(n.dir, "secret")
	before, err := trust.ReadSecretFile(file)
	if err != nil {
		t.Fatal(err)
	}
	oldKey := before.Fingerprints()[0]
	newKey := strings.TrimSpace(n.ok("keygen", "--add", file))
	if out := n.ok("keyring", "list"); !strings.Contains(out, "differs") || !strings.Contains(out, newKey) || !strings.Contains(out, "all members agree") {
		t.Errorf("before the reload: %s", out)
	}
	n.cmd.Process.Signal(syscall.SIGHUP)
	uses := func(want ...string) error {
		var members []struct {
			Name, Uses string
			Accepts    []string
		}
		if err := json.Unmarshal([]byte(n.ok("keyring", "list", "--json")), &members); err != nil {
			return err
		}
		if len(members) != 1 || members[0].Name != "n1" || fmt.Sprint(members[0].Accepts) != fmt.Sprint(want) || members[0].Uses != want[0] {
			return fmt.Errorf("%+v, want %v", members, want)
		}
		return nil
	}
	clustertest.Eventually(t, "SIGHUP takes the new key over", func() error { return uses(oldKey, newKey) })
	n.failed(n.run("keyring", "remove", oldKey), exitUsage, []string{"it is in use", "keyring use"})
	n.failed(n.run("keyring", "use", "0123456789abcdef"), exitUsage, []string{"no key 0123456789abcdef", "keyring list"})
	n.failed(n.run("keyring", "use"), exitUsage, []string{"keyring use FINGERPRINT"})
	out := n.ok("keyring", "use", newKey)
	out += n.ok("keyring", "reload")
	out += n.ok("keyring", "remove", oldKey)
	if err := uses(newKey); err != nil {
		t.Error(err)
	}
	after, err := trust.ReadSecretFile(file)
	if err != nil || len(after) != 1 || after.Fingerprints()[0] != newKey {
		t.Fatalf("file: %v %v", after, err)
	}
	n.ok("table", "create", "a")
	n.failed(n.run("keygen", "--add", file+".none"), exitData, []string{"no such file"})
	if code, _ := n.end(syscall.SIGTERM); code != 0 {
		t.Errorf("exit %d", code)
	}
	for _, secret := range []string{before[0], after[0]} {
		if strings.Contains(out, secret) || strings.Contains(n.child.out.String(), secret) {
			t.Error("a secret was told")
		}
	}
}

// TestAgent_Certificates ensures that an agent runs with the operator's certificates, takes a renewed one over on
// SIGHUP, and says in one line what is wrong with those it cannot use.
func TestAgent_Certificates(t *testing.T) {
	ca := trusttest.New(t)
	soon := func(c *x509.Certificate) { c.NotAfter = time.Now().Add(100 * time.Hour) }
	f := ca.Issue("n1", soon)
	flags := []string{"--tls-cert", f.Cert, "--tls-key", f.Key, "--tls-ca", f.CA}
	n := startAgent(t, flags...)
	warned := func(want bool) func(map[string]any) bool {
		return func(s map[string]any) bool { return strings.Contains(fmt.Sprint(s["warnings"]), "expires on") == want }
	}
	n.waitFor("the status warns", warned(true))
	ca.Issue("n1", nil)
	n.cmd.Process.Signal(syscall.SIGHUP)
	n.waitFor("the status warns no more", warned(false))

	dir := shortDir(t)
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte(trust.NewSecret()), 0o600); err != nil {
		t.Fatal(err)
	}
	c := cli{t, dir}
	refused := func(want string, flags ...string) {
		t.Helper()
		c.failed(c.run(append([]string{"agent", "--config", os.DevNull, "--name", "n1", "--data-dir", filepath.Join(dir, "data"), "--run-dir", filepath.Join(dir, "run"),
			"--secret-file", secret, "--bind", clustertest.FreePort(t), "--gossip", clustertest.FreePort(t)}, flags...)...), exitConfig, []string{want})
	}
	refused("all three or none", "--tls-cert", f.Cert)
	refused("not for n2", append(flags, "--name", "n2", "--data-dir", filepath.Join(dir, "data2"))...)
	refused("unknown authority", "--tls-cert", f.Cert, "--tls-key", f.Key, "--tls-ca", trusttest.New(t).Issue("x", nil).CA)
}

// TestMakeRunDir ensures that a directory in which others could replace the sockets is refused.
func TestMakeRunDir(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	dir := filepath.Join(t.TempDir(), "run")
	if err := makeRunDir(dir); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("mode %v %v", info.Mode(), err)
	}
	os.Chmod(dir, 0o777)
	if err := makeRunDir(dir); err == nil || !strings.Contains(err.Error(), "chmod o-w") {
		t.Errorf("everybody may write: %v", err)
	}
	os.Chmod(dir, 0o755)
	if err := os.Chown(dir, 65534, -1); errors.Is(err, os.ErrPermission) {
		t.Skip("only root can give a directory away")
	}
	if err := makeRunDir(dir); err == nil || !strings.Contains(err.Error(), "belongs to user 65534") || !strings.Contains(err.Error(), "runuser -u") {
		t.Errorf("another user's: %v", err)
	}
}
