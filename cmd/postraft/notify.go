package main

import (
	"fmt"
	"net"
)

// notify tells systemd about the state of the service (sd_notify(3)), where it was asked to.
func (a *app) notify(state string) error {
	path, ok := a.lookup("NOTIFY_SOCKET")
	if !ok || path == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(state)); err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	return nil
}
