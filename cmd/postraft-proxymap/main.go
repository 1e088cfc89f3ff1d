// Command postraft-proxymap is the front end of postraft: the proxymap and proxywrite services of Postfix's
// master.cf. master(8) starts it; it hands the connections of Postfix processes to the agent, and answers
// them with RETRY while the agent is away.
//
//	proxymap   unix  -  -  n  -  1  postraft-proxymap
//	proxywrite unix  -  -  n  -  1  postraft-proxymap
//
// It takes the generic options of Postfix daemons and
//
//	--run-dir DIR               the agent's run directory; /run/postraft
//	-o passthrough_service=NAME the stock proxymap(8) under another service name, for local tables
//
// A service named as proxywrite_service_name says reads and writes, any other only reads. The approval lists
// are read at start-up: postfix reload ends the process, and the next connection starts one with new lists.
// It stays until then, whatever main.cf says of max_idle and max_use; -i SECONDS and -m COUNT, or
// -o max_idle and -o max_use, end it earlier, without clients only.
//
// With chroot y one thread stays outside, to reach the agent and syslog. The stock service is reached
// inside, as private/NAME.
//
// Warnings of the agent that concern this service, such as tables that are not approved, appear in Postfix's log
// under this process.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"postraft/proxy/master"
)

// version is set when the program is built.
var version = "unknown"

func main() {
	if len(os.Args) == 2 && os.Args[1] == "--version" {
		fmt.Println("postraft-proxymap", version)
		return
	}
	os.Exit(start(os.Args))
}

// start opens the log, runs the service and turns its error into the exit status. master throttles a service
// whose process ends with a status other than 0 before it served anybody, which is right for what a person
// has to mend.
func start(argv []string) int {
	env, envErr := master.ReadEnvironment(os.Getenv)
	opts, argsErr := master.ParseArgs(argv, "run-dir")
	if !env.Managed && envErr == nil {
		fmt.Fprintln(os.Stderr, "postraft-proxymap:", master.ErrByHand)
		return 64
	}
	s := &service{env: env, opts: opts}
	if opts.Chroot {
		if outside, err := master.NewOutside(); err == nil {
			s.outside = outside
			defer outside.Close()
		} else {
			envErr = err
		}
	}
	log := s.openLog()
	defer log.Close()
	s.log = slog.New(log)
	err := envErr
	if err == nil {
		err = argsErr
	}
	if err == nil {
		err = s.run()
	}
	if err != nil {
		s.log.Log(context.Background(), master.LevelFatal, "service ends", "err", err)
		return 1
	}
	return 0
}
