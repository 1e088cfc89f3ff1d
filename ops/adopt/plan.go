package adopt

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"postraft/dict"
	"postraft/ops"
)

// Options say what the operator wants.
type Options struct {
	Only    []string          // parameters, tables or names of raft tables; empty is all
	Prefix  string            // of the names of raft tables
	Names   map[string]string // names of raft tables, by type:name
	Alias   bool              // tables that are proxied already keep their names in main.cf
	Caches  bool              // share caches too
	Replace bool              // raft tables that hold something else
}

// A Plan is what can become of the tables of a Postfix instance. Its methods are for one goroutine.
type Plan struct {
	Settings *Settings
	Options  Options
	Tables   []*Table // in the order of the names of parameters, then those of master.cf

	byName map[string]*Table
}

// A State says what the cluster has of a table.
type State string

const (
	Unknown State = ""        // nobody has looked
	Absent  State = "absent"  // no raft table of that name
	Equal   State = "equal"   // a raft table that holds the same
	Differs State = "differs" // a raft table that holds something else
	Other   State = "other"   // a raft table of another type
)

// A Table is one table of Postfix.
type Table struct {
	Name  dict.Name
	Uses  []*Use
	Raft  string // name of the raft table that it can become; empty if it stays what it is
	Stays string // why it does
	Help  string // what can be done about that, or empty
	Notes []string
	Cache bool

	Source *Source // nil if it has none, or none that can be read
	State  State
	Counts ops.ImportResult // with Differs: what an import would do. After an import: what it has done
	Check  *Check           // after Verify

	named   bool // by the operator
	refused bool // its rules mean something else to postraft, or are not known
}

// Proxied reports whether all uses of the table are proxied, or some.
func (t *Table) Proxied() (all, some bool) {
	all = len(t.Uses) > 0
	for _, u := range t.Uses {
		all = all && u.Proxied
		some = some || u.Proxied
	}
	return all, some
}

// A Use is one place where a table stands.
type Use struct {
	Place   *Place
	Proxied bool
	Inside  string // the compound table that it is a part of
	Stays   string // why it has to stay here

	help    string
	cache   bool
	note    string
	mention *mention // nil if it was not found in the value as it stands
}

// NewPlan finds the tables and says what can become of each, as far as the configuration tells.
func NewPlan(s *Settings, o Options) (*Plan, error) {
	p := &Plan{Settings: s, Options: o, byName: map[string]*Table{}}
	users := s.users()
	for _, place := range s.places {
		if !lists[place.Param] {
			p.find(place, users[place.Param])
		}
	}
	p.judge()
	p.tidy()
	if err := p.name(); err != nil {
		return nil, err
	}
	return p, p.choose(users)
}

// find notes the tables of a place. users are the places that refer to it.
func (p *Plan) find(place *Place, users []*Place) {
	expanded := namesIn(place.expanded)
	seen := map[string]bool{}
	for _, m := range mentions(place.raw) {
		text, ok := expand(m.text, p.Settings.value)
		if _, there := expanded[text]; !ok || !there {
			continue // it comes up below, if it is a table at all
		}
		seen[text] = true
		if m.leaf {
			p.use(text, place, users, m)
		}
	}
	for _, name := range references(place.raw) {
		if place.Service == "" && name == place.Param {
			continue
		}
		if param := p.Settings.params[name]; param != nil {
			for text := range namesIn(param.expanded) {
				seen[text] = true
			}
		}
	}
	var left []string
	for text, leaf := range expanded {
		if leaf && !seen[text] {
			left = append(left, text)
		}
	}
	slices.Sort(left)
	for _, text := range left {
		p.use(text, place, users, nil)
	}
}

// use notes one use of a table, and why it has to stay.
func (p *Plan) use(text string, place *Place, users []*Place, m *mention) {
	name, err := dict.ParseName(text)
	if err != nil {
		return
	}
	t := p.byName[text]
	if t == nil {
		t = &Table{Name: name}
		p.byName[text] = t
		p.Tables = append(p.Tables, t)
	}
	u := &Use{Place: place, mention: m}
	t.Uses = append(t.Uses, u)
	if m == nil {
		u.Stays, u.help = "made up by an expression with $ that postraft does not take apart", "write the name of the table out"
	} else if u.Proxied = m.proxied; m.compound != nil {
		u.Inside = m.compound.text
	}
	own := p.rule(place.Param)
	u.cache, u.note = own.cache, own.note
	if u.Stays == "" {
		u.Stays, u.help = own.stays, own.help
	}
	for _, user := range users {
		r := p.rule(user.Param)
		u.cache = u.cache || r.cache
		u.note = cmp.Or(u.note, r.note)
		if u.Stays == "" && r.stays != "" {
			u.Stays, u.help = fmt.Sprintf("%s uses it: %s", user, r.stays), r.help
		}
	}
}

// rule is ruleFor, with what the settings add to it.
func (p *Plan) rule(param string) rule {
	r := ruleFor(param)
	if param == "virtual_mailbox_maps" {
		name, _, _ := strings.Cut(p.Settings.Value("virtual_transport"), ":")
		if s, ok := p.Settings.service(name + "/unix"); ok && s.command() != "virtual" {
			return rule{note: "virtual(8), which refuses proxy: here, is not the virtual_transport; see that no transport table names it"}
		}
	}
	return r
}

// judge says which tables stay what they are.
func (p *Plan) judge() {
	for _, t := range p.Tables {
		k := kinds[t.Name.Type]
		share := slices.IndexFunc(t.Uses, func(u *Use) bool { return u.Stays == "" })
		switch {
		case k.stays != "":
			t.stay(k.stays, "")
			if k.stays == atServer {
				t.Help = helpPassthrough
			}
		case inName(t.Name):
			t.stay(inConfiguration, "")
		case share < 0:
			t.stay(t.Uses[0].Stays, t.Uses[0].help)
		default:
			t.Cache = slices.ContainsFunc(t.Uses, func(u *Use) bool { return u.cache })
			if t.Cache && !p.Options.Caches {
				t.stay("a cache of this host", "--caches shares it, empty at first")
			}
			for _, u := range t.Uses {
				if u.note != "" && t.Stays == "" && !slices.Contains(t.Notes, u.note) {
					t.Notes = append(t.Notes, u.note)
				}
				if u.Stays != "" {
					t.Notes = append(t.Notes, fmt.Sprintf("stays in %s: %s", u.Place, u.Stays))
				}
			}
		}
	}
}

// tidy leaves out what stands in Postfix's own values alone and concerns nobody.
func (p *Plan) tidy() {
	p.Tables = slices.DeleteFunc(p.Tables, func(t *Table) bool {
		return t.Stays == inConfiguration && !slices.ContainsFunc(t.Uses, func(u *Use) bool { return u.Place.set })
	})
}

func (t *Table) stay(why, help string) { t.Raft, t.Stays, t.Help = "", why, help }

// name gives the tables that can become raft tables their names.
func (p *Plan) name() error {
	var names []dict.Name
	for _, t := range p.Tables {
		if t.Stays == "" {
			names = append(names, t.Name)
		}
	}
	raft := raftNames(names, p.Options.Prefix)
	taken := map[string]*Table{}
	used := map[string]bool{}
	for _, t := range p.Tables {
		if t.Stays != "" {
			continue
		}
		t.Raft = raft[t.Name]
		if name, ok := p.Options.Names[t.Name.String()]; ok {
			t.Raft, used[t.Name.String()] = name, true
		}
		if err := dict.CheckTableName(t.Raft); err != nil {
			return err
		}
		if other := taken[t.Raft]; other != nil {
			return ops.Errorf(ops.Usage, "%s and %s would both become %s", other.Name, t.Name, t.Raft).Advise("give one of them another name with --name")
		}
		taken[t.Raft] = t
	}
	for table := range p.Options.Names {
		if !used[table] {
			return ops.Errorf(ops.Usage, "--name %s: no table that can be shared is called so", table)
		}
	}
	return nil
}

// choose leaves out what the operator does not want.
func (p *Plan) choose(users map[string][]*Place) error {
	if len(p.Options.Only) == 0 {
		return nil
	}
	found := map[string]bool{}
	for _, t := range p.Tables {
		chosen := false
		for _, word := range p.Options.Only {
			byName := dict.TrimProxy(word) == t.Name.String() || t.Raft != "" && word == t.Raft
			byPlace := slices.ContainsFunc(t.Uses, func(u *Use) bool {
				return word == u.Place.String() || word == u.Place.Param ||
					slices.ContainsFunc(users[u.Place.Param], func(user *Place) bool { return word == user.String() || word == user.Param })
			})
			if byName && t.Stays != "" {
				return ops.Errorf(ops.Usage, "--only %s: it cannot be shared: %s", word, t.Stays)
			}
			if byName || byPlace {
				found[word], chosen = true, true
				t.named = t.named || byName
			}
		}
		if !chosen && t.Stays == "" {
			t.stay("not chosen by --only", "")
		}
	}
	for _, word := range p.Options.Only {
		if !found[word] {
			return ops.Errorf(ops.Usage, "--only %s: no parameter that holds a table, and no table, is called so", word)
		}
	}
	return nil
}

// Shared returns the tables that become raft tables.
func (p *Plan) Shared() []*Table {
	return slices.DeleteFunc(slices.Clone(p.Tables), func(t *Table) bool { return t.Raft == "" })
}

// Load reads what the tables hold. Those that cannot be read, or should not, stay what they are.
func (p *Plan) Load(ctx context.Context, postfix Postfix) error {
	for _, t := range p.Tables {
		k := kinds[t.Name.Type]
		if t.Cache || !k.fixed && !k.rules || inName(t.Name) {
			continue
		}
		if t.Stays != "" && slices.ContainsFunc(t.Uses, func(u *Use) bool { return u.cache || u.Stays == hostCache }) {
			continue
		}
		var err error
		if slices.ContainsFunc(t.Uses, func(u *Use) bool { return ruleFor(u.Place.Param).alias }) {
			t.Source, err = loadAliases(ctx, postfix, t.Name, p.Settings.UTF8())
		} else {
			t.Source, err = load(ctx, postfix, t.Name, p.Settings.UTF8())
		}
		t.refused = err != nil && k.rules
		if _, proxied := t.Proxied(); proxied && t.refused {
			t.Notes = append(t.Notes, "once the front end is there the agent answers for it, and otherwise than Postfix; so the change takes proxy: from it")
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && t.Raft != "":
			t.stay(fmt.Sprintf("it cannot be taken: %v", err), "")
		case err != nil:
			t.Notes = append(t.Notes, fmt.Sprintf("it cannot be taken: %v", err))
		case t.Raft != "" && t.Source.Private && !t.named:
			t.stay(fmt.Sprintf("private: others may not read %s", t.Source.File),
				fmt.Sprintf("every Postfix process can ask for a raft table; --only %s shares it all the same", t.Name))
		}
	}
	return nil
}

// Total is the size of all tables to be shared, in bytes.
func (p *Plan) Total() (bytes int64) {
	for _, t := range p.Shared() {
		if t.Source != nil {
			bytes += t.Source.Bytes
		}
	}
	return bytes
}

// Aliases notes which tables the agent answers from a raft table already, under the names that Postfix has for them.
func (p *Plan) Aliases(aliases []ops.Alias) {
	for _, a := range aliases {
		t := p.byName[a.Name]
		if t == nil || t.Raft == "" {
			continue
		}
		if all, _ := t.Proxied(); all {
			t.stay("the agent answers for it from the raft table "+a.Table+" already, by an alias", "")
		}
	}
}

// Look compares the tables with the raft tables that are there.
func (p *Plan) Look(ctx context.Context, agent Agent) error {
	tables, err := agent.Tables(ctx)
	if err != nil {
		return err
	}
	for _, t := range p.Shared() {
		i := slices.IndexFunc(tables, func(info ops.TableInfo) bool { return info.Name == t.Raft })
		typ := dict.TypeHash
		if t.Source != nil {
			typ = t.Source.Type
		}
		switch {
		case i < 0:
			t.State = Absent
			continue
		case tables[i].Type != typ:
			t.State = Other
			t.Notes = append(t.Notes, fmt.Sprintf("the raft table %s is of type %s", t.Raft, tables[i].Type))
			continue
		case t.Cache:
			t.State = Equal
			continue
		}
		if t.Counts, err = agent.Import(ctx, t.Raft, ops.ImportOptions{Type: typ, DryRun: true}, t.Source.all); err != nil {
			return fmt.Errorf("compare %s with the raft table %s: %w", t.Name, t.Raft, err)
		}
		t.State = Equal
		if t.Counts.Added+t.Counts.Changed+t.Counts.Removed > 0 {
			t.State = Differs
		}
	}
	return nil
}

// cacheLife is the expire-after of caches: longer than Postfix keeps any entry of them unless told otherwise
// (smtp_sasl_auth_cache_time is 90 days).
const cacheLife = 92 * dict.Day

// Import makes the raft tables, after Look. A raft table that holds something else refuses all of them, unless the
// operator wants it replaced.
func (p *Plan) Import(ctx context.Context, agent Agent) error {
	for _, t := range p.Shared() {
		switch {
		case t.State == Other:
			return ops.Errorf(ops.Exists, "%s: the raft table %s is there, of another type", t.Name, t.Raft).
				Advise("nothing was changed; give it another name with --name %s=NAME", t.Name)
		case t.State == Differs && !p.Options.Replace:
			return ops.Errorf(ops.Exists, "%s: the raft table %s is there and holds something else: an import would add %d, change %d, remove %d of its entries",
				t.Name, t.Raft, t.Counts.Added, t.Counts.Changed, t.Counts.Removed).
				Advise("nothing was changed; look with postraft table diff, then take --replace, or another name with --name %s=NAME", t.Name)
		}
	}
	for _, t := range p.Shared() {
		var err error
		switch {
		case t.Cache && t.State == Absent:
			err = agent.CreateTable(ctx, t.Raft, dict.TypeHash, dict.Settings{ExpireAfter: cacheLife})
		case !t.Cache:
			t.Counts, err = agent.Import(ctx, t.Raft, ops.ImportOptions{Type: t.Source.Type}, t.Source.all)
		}
		if err != nil {
			e := *ops.Classify(err)
			e.Text = fmt.Sprintf("import %s into the raft table %s: %s", t.Name, t.Raft, e.Text)
			return &e
		}
		t.State = Equal
	}
	return nil
}
