package regex

// enter begins a call of a group.
func (m *Matcher) enter(group, pos, back int32) error {
	c := call{group: group, pos: pos, back: back, parent: m.call}
	for i := m.call; i >= 0; i = m.calls[i].parent {
		if m.calls[i].pos != pos {
			break
		}
		if m.calls[i].group == group {
			return ErrLoop
		}
		m.steps++
	}
	if m.call >= 0 {
		c.depth = m.calls[m.call].depth + 1
	}
	n := len(m.calls)
	if c.depth >= maxCalls || (n+1)*len(m.regs) > maxSaved {
		return ErrLimit
	}
	if err := m.spend(8 + len(m.regs)/16); err != nil && err != errTable {
		return err
	}
	m.calls = append(m.calls, c)
	m.saved = append(m.saved[:n*len(m.regs)], m.regs...)
	if err := m.push(entry{kind: setCall, pc: m.call, least: int32(n)}); err != nil {
		return err
	}
	m.call = int32(len(m.calls) - 1)
	return nil
}

// giveBack ends a call: groups are as they were before it. It returns where to go on.
func (m *Matcher) giveBack() int32 {
	c := &m.calls[m.call]
	from := int(m.call) * len(m.regs)
	for i, v := range m.saved[from : from+len(m.regs)] {
		if m.regs[i] != v {
			m.set(int32(i), v)
		}
	}
	m.steps += len(m.regs) / 16
	m.stack = append(m.stack, entry{kind: setCall, pc: m.call, least: -1})
	m.call = c.parent
	return c.back
}
