package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"postraft/dict"
)

const (
	defaultConfigFile = "/etc/postraft/postraft.cf"
	envPrefix         = "POSTRAFT_"
)

// load completes settings that came from the command line with those of the environment and of the
// configuration file. It goes on after an error, so that all of them are told, joined, in their order.
func (s *settings) load(environ []string) error {
	env := map[string]string{}
	for _, e := range environ {
		if k, v, ok := strings.Cut(e, "="); ok && strings.HasPrefix(k, envPrefix) {
			env[k] = v
		}
	}
	path, must := s.config, true
	if path == "" {
		path = env[envPrefix+"CONFIG"]
	}
	if path == "" {
		path, must = defaultConfigFile, false
	}
	file, errs := s.readFile(path, must)
	s.flags.VisitAll(func(f *pflag.Flag) {
		variable := envPrefix + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		v, ok := env[variable]
		delete(env, variable)
		if f.Changed {
			s.origin[f.Name] = "command line"
			return
		}
		if ok && !commandLineOnly(f.Name) {
			s.origin[f.Name] = "environment " + variable
			if err := f.Value.Set(v); err != nil {
				errs = append(errs, configError("environment variable %s=%q: %v", variable, v, err))
			}
		} else if in, ok := file[f.Name]; ok {
			s.origin[f.Name] = fmt.Sprintf("%s:%d", path, in.line)
			in.apply()
		}
	})
	for k := range env { // not an error: other programs name variables, too
		s.warnings = append(s.warnings, "environment variable "+k+" is no setting of the agent")
	}
	slices.Sort(s.warnings)
	if set := s.tlsCert != ""; set != (s.tlsKey != "") || set != (s.tlsCA != "") {
		errs = append(errs, configError("tls-cert, tls-key and tls-ca go together: give all three or none"))
	}
	if _, err := parseAliases(s.aliases); err != nil {
		errs = append(errs, configError("alias: %v", err))
	}
	if err := checkMirrors(s.mirrors); err != nil {
		errs = append(errs, configError("mirror: %v", err))
	}
	for _, path := range s.mirroredSources() {
		errs = append(errs, configError("%s is a watch_file and the text of a mirror: the agent would write over the source that it reads", path).Advise("give the mirror another path"))
	}
	if s.name == "" {
		errs = append(errs, configError("this host has no name; choose one with --name"))
	}
	return errors.Join(errs...)
}

// commandLineOnly reports whether a setting cannot stand in the file or the environment: the file does not
// name itself, and nobody wants data discarded, or nothing but a check, at every start.
func commandLineOnly(name string) bool {
	return name == "config" || name == "reset" || name == "check-config"
}

// inFile is a setting as the configuration file has it.
type inFile struct {
	apply func()
	line  int
}

// readFile reads the configuration file, in the syntax of main.cf, and checks all that it says. It returns
// what puts each setting in place.
func (s *settings) readFile(path string, must bool) (values map[string]inFile, errs []error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) && !must {
		return nil, nil
	}
	if err != nil {
		return nil, []error{configError("read configuration: %v", err)}
	}
	defer f.Close()
	values = map[string]inFile{}
	for line, err := range dict.LogicalLines(f) {
		if err != nil {
			return values, append(errs, configError("%s: %v", path, err))
		}
		if line.Comment {
			continue
		}
		name, value, ok := strings.Cut(string(line.Text), "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !ok || line.Orphan || name == "" {
			errs = append(errs, configError("%s line %d: want: name = value", path, line.Line))
			continue
		}
		flag := s.flags.Lookup(strings.ReplaceAll(name, "_", "-"))
		if flag == nil || strings.Contains(name, "-") || commandLineOnly(flag.Name) {
			errs = append(errs, configError("%s line %d: there is no setting %q", path, line.Line, name).Advise("see: postraft agent --help, or postraft.cf(5)"))
			continue
		}
		apply, err := flag.Value.(*setting).parse(value)
		if err != nil {
			errs = append(errs, configError("%s line %d: %s = %s: %v", path, line.Line, name, value, err))
			continue
		}
		if earlier, twice := values[flag.Name]; twice {
			s.warnings = append(s.warnings, fmt.Sprintf("%s line %d: %s overrides line %d", path, line.Line, name, earlier.line))
		}
		values[flag.Name] = inFile{apply, line.Line}
	}
	return values, errs
}

// reload reads environment and file again, with the same command line.
func (s *settings) reload(environ []string) (*settings, error) {
	next := newSettings()
	var err error
	s.flags.VisitAll(func(f *pflag.Flag) {
		if f.Changed { // on the command line: what comes from elsewhere does not mark the flag
			err = cmp.Or(err, next.flags.Set(f.Name, f.Value.String()))
		}
	})
	if err == nil {
		err = next.load(environ)
	}
	return next, err
}

// take takes over from next what needs no restart, so that it is still there when the agent begins its node anew.
func (s *settings) take(next *settings) {
	s.logLevel, s.postfixConfig, s.aliases = next.logLevel, next.postfixConfig, next.aliases
	s.readMaps, s.writeMaps, s.approveRaft = next.readMaps, next.writeMaps, next.approveRaft
}

// fixed lists the settings that differ and need a restart: all but those of take.
func (s *settings) fixed(next *settings) []string {
	var names []string
	s.flags.VisitAll(func(f *pflag.Flag) {
		switch f.Name {
		case "log-level", "proxy-read-maps", "proxy-write-maps", "approve-all-raft", "postfix-config", "alias":
		default:
			if next.flags.Lookup(f.Name).Value.String() != f.Value.String() {
				names = append(names, f.Name)
			}
		}
	})
	return names
}
