package master

import (
	"encoding/binary"
	"fmt"
	"os"
)

// A Status is the status socket that all processes of a service share.
type Status struct {
	file       *os.File
	pid        int
	generation uint32
	gone       chan struct{}
}

const (
	statusTaken = 0
	statusAvail = 1
)

// newStatus takes over file, which must be in non-blocking mode.
func newStatus(file *os.File, pid int, generation uint32) *Status {
	s := &Status{file: file, pid: pid, generation: generation, gone: make(chan struct{})}
	go s.watch()
	return s
}

// watch ends when master closes its end of the socket, or when Close is called.
func (s *Status) watch() {
	defer close(s.gone)
	var ignored [64]byte // master writes nothing
	for {
		if _, err := s.file.Read(ignored[:]); err != nil {
			return
		}
	}
}

// Gone is closed when master wants this process to finish: on reload, on stop, or when it died.
func (s *Status) Gone() <-chan struct{} { return s.gone }

// Served tells master that one piece of work was done: TAKEN, then AVAIL. Between the two master may start
// another process of the service if its process limit allows.
func (s *Status) Served() error {
	for _, state := range []uint32{statusTaken, statusAvail} {
		if err := s.report(state); err != nil {
			return err
		}
	}
	return nil
}

// report writes the three C ints of a status message in one write.
func (s *Status) report(state uint32) error {
	var msg [12]byte
	binary.NativeEndian.PutUint32(msg[0:], uint32(s.pid))
	binary.NativeEndian.PutUint32(msg[4:], s.generation)
	binary.NativeEndian.PutUint32(msg[8:], state)
	if _, err := s.file.Write(msg[:]); err != nil {
		return fmt.Errorf("report status to master: %w", err)
	}
	return nil
}

// Close ends the watch and waits for it. Gone is closed by then.
func (s *Status) Close() error {
	err := s.file.Close()
	<-s.gone
	return err
}
