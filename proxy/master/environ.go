package master

import (
	"fmt"
	"strconv"
)

// An Environment is what master puts in the environment of a process; there is no PATH in it.
type Environment struct {
	ConfigDir   string // MAIL_CONFIG, else /etc/postfix
	LogTag      string // MAIL_LOGTAG, else postfix
	PostlogPath string // POSTLOG_SERVICE: postlogd's socket; empty when logs go to syslog
	PostlogHost string // POSTLOG_HOSTNAME
	Generation  uint32 // GENERATION
	Managed     bool   // GENERATION was there: master started this process
}

// ReadEnvironment reads it through getenv, which is os.Getenv but for tests.
func ReadEnvironment(getenv func(string) string) (Environment, error) {
	env := Environment{
		ConfigDir:   or(getenv("MAIL_CONFIG"), "/etc/postfix"),
		LogTag:      or(getenv("MAIL_LOGTAG"), "postfix"),
		PostlogPath: getenv("POSTLOG_SERVICE"),
		PostlogHost: getenv("POSTLOG_HOSTNAME"),
	}
	if s := getenv("GENERATION"); s != "" {
		n, err := strconv.ParseUint(s, 8, 32)
		if err != nil {
			return env, fmt.Errorf("read environment GENERATION=%q: want an octal number", s)
		}
		env.Generation, env.Managed = uint32(n), true
	}
	return env, nil
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
