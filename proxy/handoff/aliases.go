package handoff

import "slices"

// Alias tells all front ends, and those that come, which tables are aliases of raft tables: while there is no
// agent, nothing is known of these, and the stock service is not to be asked. They have MaxAliases bytes at most.
func (s *Server) Alias(names []string) {
	s.aliasing.Lock()
	defer s.aliasing.Unlock()
	if slices.Equal(s.aliases, names) {
		return
	}
	s.aliases = slices.Clone(names)
	for f := range s.fronts {
		f.out.post(message{Kind: kindAliases, Attrs: s.aliases})
	}
}

// greet welcomes a front end, which from then on is told of other aliases, until forget.
func (s *Server) greet(f *frontLink, welcome message) error {
	s.aliasing.Lock()
	defer s.aliasing.Unlock()
	welcome.Attrs = s.aliases
	if err := f.send(welcome, -1); err != nil {
		return err
	}
	if s.fronts == nil {
		s.fronts = map[*frontLink]struct{}{}
	}
	s.fronts[f] = struct{}{}
	return nil
}

func (s *Server) forget(f *frontLink) {
	s.aliasing.Lock()
	defer s.aliasing.Unlock()
	delete(s.fronts, f)
}
