package adopt

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"postraft/dict"
	"postraft/ops"
)

// Steps are what the operator does to bring Postfix onto the raft tables, as lines for the shell, and back.
type Steps struct {
	FrontEnd []string // puts the front end into master.cf; empty if it is there
	Change   []string // names the raft tables in main.cf and master.cf
	Aliases  []string // lines for postraft.cf
	Check    string   // compares through proxymap, afterwards
	Back     []string // undoes FrontEnd and Change
	Notes    []string
}

// StepsConfig says what Steps needs beside the plan.
type StepsConfig struct {
	ConfigDir string // of Postfix, for the commands; empty is postconf's own
	RunDir    string // of the agent, for the commands; empty is the default
	Aliases   []ops.Alias

	// Approved tells which tables the services approve if these parameters, name=value, are set.
	Approved func(ctx context.Context, overrides []string) (read, write func(table string) bool, err error)
}

// Reload is the command that makes Postfix read its configuration.
func (c StepsConfig) Reload() string {
	if c.ConfigDir == "" {
		return "postfix reload"
	}
	return "postfix -c " + Quote(c.ConfigDir) + " reload"
}

func (c StepsConfig) postconf(args ...string) string {
	words := []string{"postconf"}
	if c.ConfigDir != "" {
		words = append(words, "-c", Quote(c.ConfigDir))
	}
	return strings.Join(append(words, args...), " ")
}

// Quote makes one word for the shell.
func Quote(s string) string {
	plain := func(r rune) bool {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("/._-=:@%+,", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// Steps says what to do for these tables of the plan.
func (p *Plan) Steps(ctx context.Context, tables []*Table, c StepsConfig) (*Steps, error) {
	s := &Steps{}
	shared := map[string]*Table{} // by type:name
	for _, t := range tables {
		shared[t.Name.String()] = t
	}
	if len(shared) == 0 {
		return s, nil
	}
	e := &editor{plan: p, shared: shared, edits: map[*Place][]replacement{}, aliased: map[string]string{}}
	for _, t := range tables {
		for _, u := range t.Uses {
			if u.Stays == "" && u.mention != nil {
				e.use(t, u)
			}
		}
	}
	for _, t := range p.Tables {
		for _, u := range t.Uses {
			if t.refused && u.Proxied && u.mention != nil {
				e.unproxy(u)
			}
		}
	}
	s.Notes = p.readable()
	if err := e.steps(ctx, s, c); err != nil {
		return nil, err
	}
	if err := p.frontEnd(s, c); err != nil {
		return nil, err
	}
	s.Check = e.check(tables, c)
	return s, nil
}

// check is the command that compares the tables afterwards. A table that Postfix's processes only ask for inside a
// compound one is compared with that.
func (e *editor) check(tables []*Table, c StepsConfig) string {
	words := []string{"postraft", "adopt", "--verify"}
	if c.RunDir != "" {
		words = append(words, "--run-dir", Quote(c.RunDir))
	}
	if c.ConfigDir != "" {
		words = append(words, "--config-dir", Quote(c.ConfigDir))
	}
	some := false
	for _, t := range tables {
		alone := slices.ContainsFunc(t.Uses, func(u *Use) bool {
			aliased := e.aliased[t.Name.String()] != "" && u.Proxied
			return u.Stays == "" && u.mention != nil && !aliased && (u.mention.compound == nil || !u.mention.compound.proxied)
		})
		if alone && !t.Cache {
			words, some = append(words, Quote(t.Name.String()+"="+t.Raft)), true
		}
	}
	for _, pair := range e.pairs {
		words, some = append(words, Quote(pair)), true
	}
	if !some {
		return ""
	}
	return strings.Join(words, " ")
}

// An editor puts raft tables into values.
type editor struct {
	plan    *Plan
	shared  map[string]*Table
	edits   map[*Place][]replacement
	opened  map[*mention]bool
	aliased map[string]string
	pairs   []string // OLD=>NEW for compound tables and aliases
}

// use puts the raft table in the place of one use of a table.
func (e *editor) use(t *Table, u *Use) {
	m := u.mention
	inside := m.compound != nil && m.compound.proxied
	if inside && e.foreign(m.compound) {
		e.open(u.Place, m.compound)
		return
	}
	unclear := slices.ContainsFunc(t.Uses, func(u *Use) bool { return u.mention == nil })
	if e.plan.Options.Alias && m.proxied && !unclear {
		e.aliased[t.Name.String()] = t.Raft
		whole := m.text
		if m.compound != nil {
			whole = m.compound.text
		}
		if text, ok := expand(whole, e.plan.Settings.value); ok && !t.Cache {
			e.compare(text, "proxy:"+text)
		}
		return
	}
	text := dict.RaftType + ":" + t.Raft
	if !inside {
		text = "proxy:" + text
	}
	e.edits[u.Place] = append(e.edits[u.Place], replacement{m.from, m.to, text})
}

// foreign reports whether there is a table in a compound one that the agent does not answer: then it answers none of
// them.
func (e *editor) foreign(compound *mention) bool {
	return slices.ContainsFunc(compound.members, func(text string) bool {
		text, _ = expand(text, e.plan.Settings.value)
		typ, _, _ := strings.Cut(text, ":")
		t := e.shared[text]
		if t == nil && e.plan.refused(text) {
			return true
		}
		return t == nil && !kinds[typ].local
	})
}

// refused reports whether a table holds rules that the agent would answer otherwise than Postfix.
func (p *Plan) refused(text string) bool { return p.byName[text] != nil && p.byName[text].refused }

// unproxy lets Postfix's processes read a table themselves.
func (e *editor) unproxy(u *Use) {
	if m := u.mention; m.compound != nil && m.compound.proxied {
		e.open(u.Place, m.compound)
	} else {
		e.edits[u.Place] = append(e.edits[u.Place], replacement{m.from, m.to, m.text})
	}
}

// readable says which files the agent comes to read, once it answers for proxied tables.
func (p *Plan) readable() (notes []string) {
	var files []string
	for _, t := range p.Tables {
		k := kinds[t.Name.Type]
		if _, proxied := t.Proxied(); proxied && t.Raft == "" && !t.refused && k.local && (k.fixed || k.rules) && !inName(t.Name) {
			files = append(files, t.Name.Map)
		}
	}
	if len(files) > 0 {
		notes = append(notes, "the agent answers for these proxied tables, so its user has to be able to read them: "+strings.Join(files, ", "))
	}
	return notes
}

// open takes "proxy:" from a compound table and puts it before its members, so that each of them is asked where it is.
func (e *editor) open(place *Place, compound *mention) {
	if e.opened[compound] {
		return
	}
	if e.opened == nil {
		e.opened = map[*mention]bool{}
	}
	e.opened[compound] = true
	e.edits[place] = append(e.edits[place], replacement{compound.from, compound.to - len(compound.text), ""})
	for _, m := range mentions(place.raw) {
		if m.compound == nil || m.compound.from != compound.from || !m.leaf {
			continue
		}
		text, _ := expand(m.text, e.plan.Settings.value)
		typ, _, _ := strings.Cut(text, ":")
		if t := e.shared[text]; t != nil {
			e.edits[place] = append(e.edits[place], replacement{m.from, m.to, "proxy:" + dict.RaftType + ":" + t.Raft})
		} else if e.plan.refused(text) {
			e.edits[place] = append(e.edits[place], replacement{m.from, m.to, m.text})
		} else if kinds[typ].stays != inConfiguration {
			e.edits[place] = append(e.edits[place], replacement{m.from, m.to, "proxy:" + m.text})
		}
	}
}

// steps turns the edits into commands.
func (e *editor) steps(ctx context.Context, s *Steps, c StepsConfig) error {
	var overrides []string // of main.cf, for Approved
	var back []string
	var want []string // tables that have to be approved for reading
	var written []string
	for _, place := range e.plan.Settings.places {
		edits := e.edits[place]
		if len(edits) == 0 {
			continue
		}
		slices.SortFunc(edits, func(a, b replacement) int { return cmp.Compare(a.from, b.from) })
		value := replaced(place.raw, edits)
		e.pair(place, value)
		if place.Service == "" {
			overrides = append(overrides, place.Param+"="+value)
			s.Change = append(s.Change, c.postconf("-e", Quote(place.Param+" = "+value)))
			back = append(back, c.undo(place))
		} else {
			s.Change = append(s.Change, c.override(place, value)...)
			back = append(back, c.override(place, place.raw)...)
			if name := overrideParam(place); strings.ContainsAny(onePart(value), " \t") && !strings.ContainsAny(onePart(place.raw), " \t") {
				back = append(back, c.postconf("-X", name))
			}
		}
		cache := e.plan.rule(place.Param).cache
		for _, m := range mentions(value) {
			if text, ok := expand(m.text, e.plan.Settings.value); ok && m.proxied && m.compound == nil {
				if cache {
					written = append(written, text)
				} else {
					want = append(want, text)
				}
			} else if ok && m.proxied && !m.compound.proxied {
				want = append(want, text)
			}
		}
	}
	read, write, err := c.Approved(ctx, overrides)
	if err != nil {
		return err
	}
	for _, list := range []struct {
		param    string
		tables   []string
		approved func(string) bool
	}{{"proxy_read_maps", want, read}, {"proxy_write_maps", written, write}} {
		var missing []string
		for _, table := range list.tables {
			if word := "proxy:" + table; !list.approved(table) && !slices.Contains(missing, word) {
				missing = append(missing, word)
			}
		}
		if place := e.plan.Settings.params[list.param]; len(missing) > 0 && place != nil {
			value := strings.TrimSpace(place.raw + " " + strings.Join(missing, " "))
			s.Change = append(s.Change, c.postconf("-e", Quote(place.Param+" = "+value)))
			back = append(back, c.undo(place))
		}
	}
	s.Back = back
	if len(e.aliased) > 0 {
		for _, a := range c.Aliases {
			if _, ok := e.aliased[a.Name]; !ok {
				e.aliased[a.Name] = a.Table
			}
		}
		line := "alias ="
		for _, name := range slices.Sorted(maps.Keys(e.aliased)) {
			line += "\n    " + name + "=" + e.aliased[name]
		}
		s.Aliases = strings.Split(line, "\n")
	}
	if slices.ContainsFunc(slices.Collect(maps.Values(e.shared)), func(t *Table) bool {
		return t.Cache && slices.ContainsFunc(t.Uses, func(u *Use) bool { return u.note == cleanupHint })
	}) {
		s.Notes = append(s.Notes, "on all relays but one, set postscreen_cache_cleanup_interval = 0 and address_verify_cache_cleanup_interval = 0")
	}
	return nil
}

// pair notes the compound tables of a place as they were and will be. There are as many before as after.
func (e *editor) pair(place *Place, value string) {
	outer := func(value string) (all []*mention) {
		for _, m := range mentions(value) {
			if m.compound == nil {
				all = append(all, m)
			}
		}
		return all
	}
	before, after := outer(place.raw), outer(value)
	for i, m := range before {
		if m.leaf || i >= len(after) {
			continue
		}
		was, ok1 := expand(m.text, e.plan.Settings.value)
		is, ok2 := expand(value[after[i].from:after[i].to], e.plan.Settings.value)
		if ok1 && ok2 && dict.TrimProxy(is) != was {
			e.compare(was, is)
		}
	}
}

// compare notes that two tables are to be compared.
func (e *editor) compare(was, is string) {
	if pair := was + arrow + is; !slices.Contains(e.pairs, pair) {
		e.pairs = append(e.pairs, pair)
	}
}

// undo gives a parameter of main.cf the value that it has now.
func (c StepsConfig) undo(place *Place) string {
	if !place.set {
		return c.postconf("-X", Quote(place.Param))
	}
	return c.postconf("-e", Quote(place.Param+" = "+place.raw))
}

// override gives a parameter in master.cf a value. postconf takes none with white space there, which can go where it
// stands beside a comma or parts words; if there is more, the value moves to a parameter of main.cf.
func (c StepsConfig) override(place *Place, value string) []string {
	if short := onePart(value); !strings.ContainsAny(short, " \t") {
		return []string{c.postconf("-Pe", Quote(place.String()+"="+short))}
	}
	name := overrideParam(place)
	return []string{c.postconf("-e", Quote(name+" = "+value)), c.postconf("-Pe", Quote(place.String()+"=$"+name))}
}

func overrideParam(place *Place) string {
	return strings.Map(func(r rune) rune {
		if nameLen(string(r)) == 1 {
			return r
		}
		return '_'
	}, "postraft_"+place.Service+"_"+place.Param)
}

// onePart puts commas in the place of white space that parts the words of a list.
func onePart(value string) string { return strings.Join(dict.Words(value), ",") }

// frontEnd puts the front end in the place of proxymap(8), which goes on under another name.
func (p *Plan) frontEnd(s *Steps, c StepsConfig) error {
	const program = "postraft-proxymap"
	option, err := c.runDirOption()
	if err != nil {
		return err
	}
	var back []string
	for _, name := range []string{p.Settings.Value("proxymap_service_name"), p.Settings.Value("proxywrite_service_name")} {
		old, there := p.Settings.service(name + "/unix")
		if there && old.command() == program {
			continue
		}
		fields, args := []string{name, "unix", "-", "-", "n", "-", "-"}, ""
		if name == p.Settings.Value("proxywrite_service_name") {
			fields[6] = "1"
		}
		if there {
			fields, args = slices.Clone(old.fields[:7]), strings.Join(old.fields[8:], " ")
			back = append(back, c.postconf("-Me", Quote(name+"/unix="+strings.Join(old.fields, " "))))
		} else {
			back = append(back, c.postconf("-MX", Quote(name+"/unix")))
		}
		local := name + "-local"
		if _, ok := p.Settings.service(local + "/unix"); !ok {
			fields[0] = local
			line := strings.Join(fields, " ") + " proxymap"
			if args != "" {
				line += " " + args
			}
			s.FrontEnd = append(s.FrontEnd, c.postconf("-Me", Quote(local+"/unix="+line+" -n "+name)))
			back = append(back, c.postconf("-MX", Quote(local+"/unix")))
		}
		fields[0], fields[6] = name, "1"
		s.FrontEnd = append(s.FrontEnd, c.postconf("-Me", Quote(fmt.Sprintf("%s/unix=%s %s%s -o passthrough_service=%s", name, strings.Join(fields, " "), program, option, local))))
	}
	s.Back = append(s.Back, back...)
	return nil
}

// runDirOption is the front end's option in master.cf. Postfix parts words at white space that is not in braces, and takes
// those around a whole word away. postconf takes a pair away when it writes, so there are two.
func (c StepsConfig) runDirOption() (string, error) {
	word := c.RunDir
	switch {
	case word == "":
		return "", nil
	case strings.TrimSpace(word) != word || strings.ContainsAny(word, "\r\n") || dict.Unbrace("{"+word+"}") != word:
		return "", ops.Errorf(ops.Config, "master.cf cannot hold the directory %q", word).Advise("choose a run_dir without line breaks, white space at its ends and single braces")
	case strings.ContainsAny(word, " \t{}"):
		word = "{{" + word + "}}"
	}
	return " --run-dir " + word, nil
}
