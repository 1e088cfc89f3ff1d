package local

import (
	"bufio"
	"bytes"
	"os"
	"strconv"
	"strings"

	"postraft/dict"
)

// unixType returns the kind of a unix table; ok is false where accounts come from more than files.
func (s *Set) unixType(name string) (typ FileType, ok bool) {
	switch name {
	case "passwd.byname":
		return FileType{dict.Fixed, accounts(passwdLine)}, s.onlyFiles("passwd")
	case "group.byname":
		return FileType{dict.Fixed, accounts(groupLine)}, s.onlyFiles("group")
	}
	return typ, false
}

func (s *Set) unixPath(name string) string {
	if name == "group.byname" {
		return s.cfg.Group
	}
	return s.cfg.Passwd
}

// onlyFiles reports whether the name service switch looks for accounts in files and nowhere else but systemd,
// whose accounts are of services and have no mail. Without its configuration that is so, too.
func (s *Set) onlyFiles(database string) bool {
	f, err := os.Open(s.cfg.NSSwitch)
	if err != nil {
		return os.IsNotExist(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line, _, _ := strings.Cut(lines.Text(), "#")
		name, sources, ok := strings.Cut(line, ":")
		if !ok || strings.TrimSpace(name) != database {
			continue
		}
		for _, source := range strings.Fields(sources) {
			if source != "files" && source != "systemd" {
				return false
			}
		}
	}
	return lines.Err() == nil
}

// accounts compiles a file of accounts, of which the first one of a name counts. entry returns the name and value
// of a line, as the C library reads it and Postfix prints it (dict_unix.c); ok is false for a line that is
// none.
func accounts(entry func(line string) (name, value string, ok bool)) func([]byte, bool) (Lookuper, []dict.Problem, error) {
	return func(text []byte, _ bool) (Lookuper, []dict.Problem, error) {
		t := accountTable{}
		for line := range bytes.Lines(text) {
			s := strings.TrimLeft(strings.TrimSuffix(string(line), "\n"), blanks)
			if s == "" || s[0] == '#' || s[0] == '+' || s[0] == '-' {
				continue
			}
			name, value, ok := entry(s)
			if _, twice := t[name]; ok && !twice {
				t[name] = []byte(value)
			}
		}
		return t, nil, nil
	}
}

type accountTable map[string][]byte

func (t accountTable) Lookup(key []byte) ([]byte, bool, error) {
	value, ok := t[string(key)]
	return value, ok, nil
}

// cutNumber takes a number and the colon behind it from the front of s.
func cutNumber(s string) (number, rest string, ok bool) {
	number, rest, _ = strings.Cut(s, ":")
	n, err := strconv.ParseUint(number, 10, 32)
	return strconv.FormatUint(n, 10), rest, err == nil
}

func passwdLine(line string) (name, value string, ok bool) {
	name, rest, _ := strings.Cut(line, ":")
	password, rest, _ := strings.Cut(rest, ":")
	uid, rest, okUID := cutNumber(rest)
	gid, rest, okGID := cutNumber(rest)
	gecos, rest, _ := strings.Cut(rest, ":")
	dir, shell, _ := strings.Cut(rest, ":")
	return name, strings.Join([]string{name, password, uid, gid, gecos, dir, shell}, ":"), okUID && okGID
}

func groupLine(line string) (name, value string, ok bool) {
	name, rest, _ := strings.Cut(line, ":")
	password, rest, _ := strings.Cut(rest, ":")
	gid, list, ok := cutNumber(rest)
	var users []string
	for user := range strings.SplitSeq(list, ",") {
		if user = strings.TrimLeft(user, blanks); user != "" {
			users = append(users, user)
		}
	}
	return name, name + ":" + password + ":" + gid + ":" + strings.Join(users, ","), ok
}
