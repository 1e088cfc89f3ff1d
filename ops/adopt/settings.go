package adopt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"

	"postraft/ops"
)

// Postfix runs the commands of a Postfix instance.
type Postfix interface {
	// Run runs postconf or postmap with the instance's configuration, stdin and arguments. said is what it wrote to
	// standard error. err is an *exec.ExitError if the command ended with another status than 0.
	Run(ctx context.Context, command string, stdin io.Reader, args ...string) (stdout []byte, said string, err error)
}

// Commands is the Postfix that is installed.
type Commands struct {
	ConfigDir string // empty is postconf's own
}

// Run implements Postfix.
func (c Commands) Run(ctx context.Context, command string, stdin io.Reader, args ...string) ([]byte, string, error) {
	if c.ConfigDir != "" {
		args = append([]string{"-c", c.ConfigDir}, args...)
	}
	cmd := exec.CommandContext(ctx, ops.PostfixCommand(command), args...)
	cmd.Stdin = stdin
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return stdout.Bytes(), stderr.String(), err
}

// complaint is the error of a command, with its reason.
func complaint(command, said string, err error) error {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return err // it did not run
	}
	for line := range strings.Lines(said) {
		line = strings.TrimSpace(strings.TrimPrefix(line, command+": "))
		for _, level := range []string{"fatal: ", "panic: ", "error: "} {
			if text, ok := strings.CutPrefix(line, level); ok {
				return errors.New(text)
			}
		}
	}
	return fmt.Errorf("%s: %w", command, err)
}

// A Place is where a value stands: a parameter of main.cf, or one that -o sets for a service of master.cf.
type Place struct {
	Service string // name/type in master.cf; empty in main.cf
	Param   string

	raw, expanded string
	set           bool // in main.cf or master.cf, and not Postfix's own value
}

func (p *Place) String() string {
	if p.Service != "" {
		return p.Service + "/" + p.Param
	}
	return p.Param
}

// A service is a line of master.cf, its words parted by blanks.
type service struct {
	name   string // name/type
	fields []string
}

// command returns the daemon, without a directory.
func (s service) command() string {
	if len(s.fields) < 8 {
		return ""
	}
	return filepath.Base(s.fields[7])
}

// Settings are what a Postfix instance says of itself.
type Settings struct {
	places   []*Place // main.cf in the order of names, then master.cf
	params   map[string]*Place
	services []service
}

// Read asks postconf(1).
func Read(ctx context.Context, postfix Postfix) (*Settings, error) {
	var text [6]string
	for i, args := range [][]string{{}, {"-x"}, {"-n"}, {"-P"}, {"-Px"}, {"-M"}} {
		out, said, err := postfix.Run(ctx, "postconf", nil, args...)
		if err != nil {
			return nil, fmt.Errorf("ask postconf about Postfix: %w", complaint("postconf", said, err))
		}
		text[i] = string(out)
	}
	return parse(text[0], text[1], text[2], text[3], text[4], text[5]), nil
}

// parse reads what postconf says: all parameters as they stand and expanded, those set in main.cf, those of master.cf
// as they stand and expanded, and the services.
func parse(all, expanded, set, overrides, overridesExpanded, services string) *Settings {
	s := &Settings{params: map[string]*Place{}}
	for name, value := range assignments(all) {
		p := &Place{Param: name, raw: value}
		s.places = append(s.places, p)
		s.params[name] = p
	}
	for name, value := range assignments(expanded) {
		if p := s.params[name]; p != nil {
			p.expanded = value
		}
	}
	for name := range assignments(set) {
		if p := s.params[name]; p != nil {
			p.set = true
		}
	}
	inMaster := map[string]*Place{}
	for name, value := range assignments(overrides) {
		at := strings.LastIndexByte(name, '/')
		if at < 0 {
			continue
		}
		p := &Place{Service: name[:at], Param: name[at+1:], raw: value, set: true}
		inMaster[name] = p
		s.places = append(s.places, p)
	}
	for name, value := range assignments(overridesExpanded) {
		if p := inMaster[name]; p != nil {
			p.expanded = value
		}
	}
	for line := range strings.Lines(services) {
		if fields := strings.Fields(line); len(fields) >= 8 {
			s.services = append(s.services, service{fields[0] + "/" + fields[1], fields})
		}
	}
	return s
}

// assignments yields name and value of each line "name = value".
func assignments(text string) func(yield func(name, value string) bool) {
	return func(yield func(name, value string) bool) {
		for line := range strings.Lines(text) {
			name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
			if ok && !yield(strings.TrimSpace(name), strings.TrimSpace(value)) {
				return
			}
		}
	}
}

// value returns the value of a parameter as it stands.
func (s *Settings) value(name string) string {
	if p := s.params[name]; p != nil {
		return p.raw
	}
	return ""
}

// Value returns the expanded value of a parameter.
func (s *Settings) Value(name string) string {
	if p := s.params[name]; p != nil {
		return p.expanded
	}
	return ""
}

// UTF8 reports whether keys and values of tables shall be UTF-8.
func (s *Settings) UTF8() bool { return s.Value("smtputf8_enable") == "yes" }

// service returns a service, by name/type.
func (s *Settings) service(name string) (service, bool) {
	for _, v := range s.services {
		if v.name == name {
			return v, true
		}
	}
	return service{}, false
}

// users returns, for each parameter, the places whose values refer to it, directly or through others.
func (s *Settings) users() map[string][]*Place {
	direct := map[string][]*Place{}
	for _, p := range s.places {
		if lists[p.Param] {
			continue
		}
		for _, name := range references(p.raw) {
			direct[name] = append(direct[name], p)
		}
	}
	all := map[string][]*Place{}
	for name := range direct {
		seen := map[*Place]bool{}
		var walk func(string)
		start := name
		walk = func(name string) {
			for _, p := range direct[name] {
				if !seen[p] {
					seen[p] = true
					all[start] = append(all[start], p)
					if p.Service == "" {
						walk(p.Param)
					}
				}
			}
		}
		walk(start)
	}
	return all
}
