package regex

// enter begins a call of a group.
func (m *Matcher) enter(group, pos, back int32) error {
	c := call{group: group, pos: pos, back: back, parent: m.call, regs: append([]int32(nil), m.regs...)}
	for i := m.call; i >= 0; i = m.calls[i].parent {
		if m.calls[i].pos != pos {
			break
		}
		if m.calls[i].group == group {
			return ErrLoop
		}
	}
	if m.call >= 0 {
		c.depth = m.calls[m.call].depth + 1
	}
	if c.depth >= maxCalls || len(m.calls) >= maxStack {
		return ErrLimit
	}
	if err := m.spend(8); err != nil && err != errTable {
		return err
	}
	m.calls = append(m.calls, c)
	if err := m.push(entry{kind: setCall, pc: m.call}); err != nil {
		return err
	}
	m.call = int32(len(m.calls) - 1)
	return nil
}

// giveBack ends a call: groups are as they were before it. It returns where to go on.
func (m *Matcher) giveBack() int32 {
	c := &m.calls[m.call]
	for i, v := range c.regs {
		if m.regs[i] != v {
			m.set(int32(i), v)
		}
	}
	m.stack = append(m.stack, entry{kind: setCall, pc: m.call})
	m.call = c.parent
	return c.back
}
