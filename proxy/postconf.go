package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"postraft/dict"
)

// An Instance is what a Postfix instance says of itself.
type Instance struct {
	MailVersion       string
	SMTPUTF8          bool
	ReadMaps          string // proxy_read_maps, expanded, and what else approves tables for reading
	WriteMaps         string // proxy_write_maps, expanded
	ProxywriteService string
	MailOwner         string
	QueueDirectory    string
	ConfigDirectory   string
}

// AskPostfix asks postconf(1) about the instance in configDir; an empty one is postconf's own. command is
// postconf, or its full path, for a service of master(8) has no PATH. overrides are "name=value", as -o on
// the service's line in master.cf gives them.
func AskPostfix(ctx context.Context, command, configDir string, overrides []string) (Instance, error) {
	ask := func(names ...string) ([]string, error) {
		args := []string{"-x", "-h"}
		if configDir != "" {
			args = append(args, "-c", configDir)
		}
		for _, o := range overrides {
			args = append(args, "-o", o)
		}
		cmd := exec.CommandContext(ctx, command, append(args, names...)...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("ask %s about Postfix: %w: %s", command, err, firstLine(stderr.String()))
		}
		return strings.Split(strings.TrimSuffix(string(out), "\n"), "\n"), nil
	}
	names := []string{"mail_version", "smtputf8_enable", "proxy_read_maps", "proxy_write_maps",
		"proxywrite_service_name", "mail_owner", "queue_directory", "config_directory", "smtpd_restriction_classes"}
	// Each value is one line; an unknown name gives a warning and no line, so old Postfix is asked name by name.
	values, err := ask(names...)
	if err != nil {
		return Instance{}, err
	}
	if len(values) != len(names) {
		values = values[:0]
		for _, name := range names {
			v, err := ask(name)
			if err != nil {
				return Instance{}, err
			}
			values = append(values, strings.Join(v, " "))
		}
	}
	i := Instance{
		MailVersion: values[0], SMTPUTF8: values[1] == "yes", ReadMaps: values[2], WriteMaps: values[3],
		ProxywriteService: values[4], MailOwner: values[5], QueueDirectory: values[6], ConfigDirectory: values[7],
	}
	if i.MailVersion == "" {
		return i, errors.New("ask postconf about Postfix: no mail_version")
	}
	if classes := strings.FieldsFunc(values[8], func(r rune) bool { return strings.ContainsRune(dict.Separators, r) }); len(classes) > 0 && AtLeast(i.MailVersion, 3, 11) {
		lists, err := ask(slices.Compact(classes)...)
		if err != nil {
			return i, err
		}
		i.ReadMaps += " " + strings.Join(lists, " ")
	}
	return i, nil
}

// AtLeast reports whether a mail_version, such as 3.7.11 or 3.12-20260821, is at least major.minor. One that
// cannot be read is taken for 3.7.
func AtLeast(version string, major, minor int) bool {
	first, rest, _ := strings.Cut(version, ".")
	end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(rest)
	}
	have, err1 := strconv.Atoi(first)
	haveMinor, err2 := strconv.Atoi(rest[:end])
	if err1 != nil || err2 != nil {
		have, haveMinor = 3, 7
	}
	return have > major || have == major && haveMinor >= minor
}

// SetVersion sets what of the service depends on the version of Postfix.
func (s *Service) SetVersion(mailVersion string) {
	s.Announce = AtLeast(mailVersion, 3, 6)
	s.Modern = AtLeast(mailVersion, 3, 11)
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}
