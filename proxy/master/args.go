package master

import (
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"
)

// A Parameter is one -o name=value of the service's line in master.cf.
type Parameter struct{ Name, Value string }

// Options are the generic options of a Postfix daemon. Zero values mean that the option was not given.
type Options struct {
	Program string // argv[0] as master wrote it
	Name    string // -n, else the last component of Program
	Type    string // -t: unix, inet, pass

	Alone     bool // -l: the process limit is 1
	Unlimited bool // -z: there is no process limit
	Sockets   int  // -s: listening sockets from fd 6 up; 1 when not given

	Unprivileged bool // -u: change to mail_owner after start-up
	Chroot       bool // -c: change the root to queue_directory

	MaxIdle time.Duration // -i: end after so long without clients; 0 is never
	MaxUse  int           // -m: end after so many clients; 0 is never

	Foreground  bool // -d: master itself is not a daemon
	Debugger    bool // -D: start debugger_command; there is none for us
	Stream      bool // -S: one client on standard input
	StandardErr bool // -V: log to standard error too
	Verbose     int  // -v, counted

	Parameters []Parameter // -o, in the order given; the last of a name counts

	Own  map[string]string // our own long options
	Args []string          // what follows the options
}

// Parameter returns the value that -o gave to the main.cf parameter name.
func (o *Options) Parameter(name string) (value string, ok bool) {
	for _, p := range o.Parameters {
		if p.Name == name {
			value, ok = p.Value, true
		}
	}
	return value, ok
}

// Process returns the name of the process in logs: the last component of the command.
func (o *Options) Process() string { return path.Base(o.Program) }

// withValue are the options that take a value; noValue are the others. POSIX getopt: c d D i: l m: n: o: s:
// S t: u v V z.
const (
	withValue = "imnost"
	noValue   = "cdDlSuvVz"
)

// ParseArgs reads argv as master gives it. own names the program's own long options; each takes a value, as
// --name VALUE or --name=VALUE, and they may stand anywhere among the options.
func ParseArgs(argv []string, own ...string) (Options, error) {
	if len(argv) == 0 {
		return Options{}, fmt.Errorf("parse arguments: no program name")
	}
	o := Options{Program: argv[0], Name: path.Base(argv[0]), Sockets: 1, Own: map[string]string{}}
	rest := argv[1:]
	for len(rest) > 0 {
		word := rest[0]
		if word == "--" {
			rest = rest[1:]
			break
		}
		if len(word) < 2 || word[0] != '-' {
			break
		}
		rest = rest[1:]
		var err error
		if strings.HasPrefix(word, "--") {
			rest, err = o.long(word[2:], rest, own)
		} else {
			rest, err = o.cluster(word[1:], rest)
		}
		if err != nil {
			return Options{}, fmt.Errorf("parse arguments: %w", err)
		}
	}
	o.Args = rest
	return o, nil
}

func (o *Options) long(word string, rest, own []string) ([]string, error) {
	name, value, glued := strings.Cut(word, "=")
	for _, known := range own {
		if name != known {
			continue
		}
		if !glued {
			if len(rest) == 0 {
				return nil, fmt.Errorf("option --%s: value missing", name)
			}
			value, rest = rest[0], rest[1:]
		}
		o.Own[name] = value
		return rest, nil
	}
	return nil, fmt.Errorf("unknown option --%s", name)
}

// cluster reads the letters of one word: flags may be joined, and a value may follow its letter directly.
func (o *Options) cluster(letters string, rest []string) ([]string, error) {
	for i := range len(letters) {
		letter := letters[i]
		if strings.IndexByte(noValue, letter) >= 0 {
			o.flag(letter)
			continue
		}
		if strings.IndexByte(withValue, letter) < 0 {
			return nil, fmt.Errorf("unknown option -%c", letter)
		}
		value := letters[i+1:]
		if value == "" {
			if len(rest) == 0 {
				return nil, fmt.Errorf("option -%c: value missing", letter)
			}
			value, rest = rest[0], rest[1:]
		}
		if err := o.value(letter, value); err != nil {
			return nil, fmt.Errorf("option -%c: %w", letter, err)
		}
		return rest, nil
	}
	return rest, nil
}

func (o *Options) flag(letter byte) {
	switch letter {
	case 'c':
		o.Chroot = true
	case 'd':
		o.Foreground = true
	case 'D':
		o.Debugger = true
	case 'l':
		o.Alone = true
	case 'S':
		o.Stream = true
	case 'u':
		o.Unprivileged = true
	case 'v':
		o.Verbose++
	case 'V':
		o.StandardErr = true
	case 'z':
		o.Unlimited = true
	}
}

// maxSockets bounds -s: each socket is a descriptor.
const maxSockets = 1024

func (o *Options) value(letter byte, value string) error {
	switch letter {
	case 'i':
		n, err := number(value, 1<<30)
		o.MaxIdle = time.Duration(n) * time.Second
		return err
	case 'm':
		n, err := number(value, 1<<30)
		o.MaxUse = n
		return err
	case 'n':
		o.Name = value
	case 'o':
		p, err := parseParameter(value)
		o.Parameters = append(o.Parameters, p)
		return err
	case 's':
		n, err := number(value, maxSockets)
		if err == nil && n < 1 {
			err = fmt.Errorf("%q: want at least 1", value)
		}
		o.Sockets = n
		return err
	case 't':
		switch value {
		case "unix", "inet":
		case "pass", "fifo", "unix-dgram":
			return fmt.Errorf("service type %q cannot be served: use unix", value)
		default:
			return fmt.Errorf("unknown service type %q", value)
		}
		o.Type = value
	}
	return nil
}

func number(s string, limit int) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > limit {
		return 0, fmt.Errorf("%q: want a number from 0 to %d", s, limit)
	}
	return n, nil
}

func parseParameter(s string) (Parameter, error) {
	name, value, ok := strings.Cut(s, "=")
	name, value = strings.TrimSpace(name), strings.TrimSpace(value)
	if !ok || name == "" || strings.ContainsAny(name, " \t") {
		return Parameter{}, fmt.Errorf("%q: want name=value", s)
	}
	return Parameter{name, value}, nil
}
