package chaos

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"testing"
)

// TestDisk_PowerCut ensures that a power cut takes away what was not fsynced, and nothing else: a violation that
// the disk has made would be no violation.
func TestDisk_PowerCut(t *testing.T) {
	m, _ := possible()
	if !m.disks {
		t.Skip("no FUSE file systems in namespaces of its own")
	}
	k, err := newKeeper(true)
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	d, err := newDisk(k, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer d.unmount()
	in := func(do func(root *os.Root) error) {
		t.Helper()
		if err := k.do(func() error {
			root, err := os.OpenRoot(d.dir)
			if err != nil {
				return err
			}
			defer root.Close()
			return do(root)
		}); err != nil {
			t.Fatal(err)
		}
	}
	write := func(root *os.Root, name, text string, sync bool) error {
		f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o600)
		if err != nil {
			return err
		}
		_, err = f.WriteString(text)
		if sync {
			err = errors.Join(err, f.Sync())
		}
		return errors.Join(err, f.Close())
	}
	in(func(root *os.Root) error {
		dir, err := root.Open(".")
		if err != nil {
			return err
		}
		defer dir.Close()
		return errors.Join(
			write(root, "new", "new", true), root.Rename("new", "renamed, on disk"), dir.Sync(),
			write(root, "before", "text", true), root.Rename("before", "renamed, not on disk"),
			write(root, "renamed, on disk", "NEW and more", false),
		)
	})
	seed := uint64(0)
	for rand.New(rand.NewPCG(seed, 0)).IntN(5) > 1 { // the cut takes all that it may
		seed++
	}
	account, err := d.powerCut(rand.New(rand.NewPCG(seed, 0)))
	if err != nil {
		t.Fatal(err)
	}
	t.Log(account)
	in(func(root *os.Root) error {
		for name, want := range map[string]string{"renamed, on disk": "new", "before": "text"} {
			if got, err := root.ReadFile(name); err != nil || string(got) != want {
				t.Errorf("%s: %q %v, want %q", name, got, err, want)
			}
		}
		for _, name := range []string{"new", "renamed, not on disk"} {
			if _, err := root.Stat(name); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s is there: %v", name, err)
			}
		}
		return nil
	})
}
