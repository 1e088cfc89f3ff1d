package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"postraft/dict"
	"postraft/ops/adopt"
)

// jsonAdoption is what adopt --json prints.
type jsonAdoption struct {
	Postfix struct {
		MailVersion     string `json:"mail_version"`
		ConfigDirectory string `json:"config_directory"`
	} `json:"postfix"`
	Agent    string      `json:"agent"` // its name; empty if it was not reached
	NoAgent  string      `json:"no_agent,omitempty"`
	Imported bool        `json:"imported"` // and verified
	Tables   []jsonTable `json:"tables"`
	FrontEnd []string    `json:"front_end"` // lines for the shell
	Change   []string    `json:"change"`
	Reload   string      `json:"reload"`
	Back     []string    `json:"back"`
	Aliases  []string    `json:"postraft_cf"`
	Verify   string      `json:"verify"`
	Notes    []string    `json:"notes"`
}

type jsonTable struct {
	Table    string     `json:"table"`
	Uses     []jsonUse  `json:"uses"`
	Source   string     `json:"source"` // text, database, or empty
	File     string     `json:"file"`
	Entries  int        `json:"entries"`
	Bytes    int64      `json:"bytes"`
	Shared   bool       `json:"shared"` // it can be, or is
	Raft     string     `json:"raft"`
	State    string     `json:"state"` // of the raft table: absent, equal, differs, other; empty if nobody looked
	Added    int        `json:"added"`
	Changed  int        `json:"changed"`
	Removed  int        `json:"removed"`
	Why      string     `json:"stays_because"`
	Help     string     `json:"help"`
	Cache    bool       `json:"cache"`
	Notes    []string   `json:"notes"`
	Warnings []string   `json:"warnings"` // lines left out as Postfix does
	Check    *jsonCheck `json:"check"`
}

type jsonUse struct {
	Place   string `json:"place"`
	Proxied bool   `json:"proxied"`
	Inside  string `json:"inside,omitempty"`
	Stays   string `json:"stays_because,omitempty"`
}

type jsonCheck struct {
	Keys        int              `json:"keys"`
	Found       int              `json:"found"`
	Absent      int              `json:"absent"`
	Differ      int              `json:"differ"`
	Differences []jsonDifference `json:"differences"` // the first ones
}

// jsonPair is a row of adopt --verify --json.
type jsonPair struct {
	Old   string     `json:"old"`
	New   string     `json:"new"`
	Check *jsonCheck `json:"check"`
}

// jsonDifference shows two answers; null is none.
type jsonDifference struct {
	Key     string  `json:"key"`
	Postfix *string `json:"postfix"`
	Raft    *string `json:"raft"`
}

// How many differences of a table are shown.
const (
	shownDifferences = 20
	jsonDifferences  = 1000
)

func jsonTables(tables []*adopt.Table) []jsonTable {
	list := []jsonTable{}
	for _, t := range tables {
		j := jsonTable{Table: t.Name.String(), Uses: []jsonUse{}, Shared: t.Raft != "", Raft: t.Raft, State: string(t.State), Why: t.Stays, Help: t.Help,
			Added: t.Counts.Added, Changed: t.Counts.Changed, Removed: t.Counts.Removed, Cache: t.Cache, Notes: notNil(t.Notes), Warnings: []string{}}
		for _, u := range t.Uses {
			j.Uses = append(j.Uses, jsonUse{u.Place.String(), u.Proxied, u.Inside, u.Stays})
		}
		if s := t.Source; s != nil {
			j.Source, j.File, j.Entries, j.Bytes = s.Kind, s.File, s.Entries, s.Bytes
			j.Notes = append(j.Notes, s.Notes...)
			for _, w := range s.Warnings {
				j.Warnings = append(j.Warnings, w.String())
			}
		}
		j.Check = newJSONCheck(t.Check)
		list = append(list, j)
	}
	return list
}

func newJSONCheck(c *adopt.Check) *jsonCheck {
	if c == nil {
		return nil
	}
	j := &jsonCheck{c.Keys, c.Found, c.Absent, len(c.Differences), []jsonDifference{}}
	for _, d := range c.Differences[:min(len(c.Differences), jsonDifferences)] {
		j.Differences = append(j.Differences, jsonDifference{d.Key, d.Postfix.JSON(), d.Raft.JSON()})
	}
	return j
}

func notNil(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

func (d *adoption) document() jsonAdoption {
	j := jsonAdoption{Imported: d.done, Tables: jsonTables(d.plan.Tables), FrontEnd: notNil(d.steps.FrontEnd), Change: notNil(d.steps.Change),
		Reload: d.conf.Reload(), Back: notNil(d.steps.Back), Aliases: notNil(d.steps.Aliases), Verify: d.steps.Check, Notes: d.notes()}
	j.Postfix.MailVersion = d.plan.Settings.Value("mail_version")
	j.Postfix.ConfigDirectory = d.plan.Settings.Value("config_directory")
	if d.status != nil {
		j.Agent = d.status.Name
	} else {
		j.NoAgent = noAgent(d.away)
	}
	return j
}

// notes are what concerns no single table.
func (d *adoption) notes() []string {
	notes := notNil(d.steps.Notes)
	program := filepath.Join(d.plan.Settings.Value("daemon_directory"), "postraft-proxymap")
	if _, err := os.Stat(program); err != nil && len(d.steps.FrontEnd) > 0 {
		notes = append(notes, fmt.Sprintf("%s is missing: make install, or the package, puts it there; do that before the change", program))
	}
	var watched []string
	for _, t := range d.plan.Shared() {
		if s := t.Source; s != nil && s.Kind == adopt.SourceText && s.Type == dict.TypeHash && len(s.Warnings) == 0 {
			watched = append(watched, t.Raft+"="+s.File)
		}
	}
	if len(watched) > 0 {
		notes = append(notes, "the files can go on being the source, if one relay has in postraft.cf: watch_file = "+strings.Join(watched, ", "))
	}
	return notes
}

func (d *adoption) printPlan() error {
	settings := d.plan.Settings
	agent := ""
	if d.status != nil {
		agent = fmt.Sprintf("agent %s with %d raft tables", d.status.Name, len(d.status.Tables))
	} else {
		agent = "the raft tables were not looked at: " + noAgent(d.away)
	}
	fmt.Fprintf(d.out, "Postfix %s, configuration in %s; %s\n\n", settings.Value("mail_version"), settings.Value("config_directory"), agent)
	rows := [][]any{{"TABLE", "IN", "PROXIED", "ENTRIES", "BYTES", "SOURCE", "BECOMES"}}
	for _, t := range d.plan.Tables {
		rows = append(rows, []any{t.Name, places(t), proxiedWord(t), sized(t, func(s *adopt.Source) any { return s.Entries }),
			sized(t, func(s *adopt.Source) any { return s.Bytes }), sized(t, func(s *adopt.Source) any { return s.Kind }), d.becomes(t)})
	}
	if err := columns(d.out, rows); err != nil {
		return err
	}
	d.printNotes()
	if d.done {
		fmt.Fprintln(d.out)
		for _, t := range d.plan.Shared() {
			if !t.Cache {
				fmt.Fprintf(d.out, "%s: %d added, %d changed, %d removed, %d unchanged\n", t.Raft, t.Counts.Added, t.Counts.Changed, t.Counts.Removed, t.Counts.Unchanged)
			}
		}
		for _, t := range d.plan.Shared() {
			if t.Check != nil {
				d.printCheck(t.Raft, t.Name.String(), t.Check)
			}
		}
	}
	return d.printSteps()
}

// printNotes prints what there is to say of each table.
func (d *adoption) printNotes() {
	const most = 5
	begun := false
	note := func(t *adopt.Table, text string) {
		if !begun {
			fmt.Fprintln(d.out)
		}
		begun = true
		fmt.Fprintf(d.out, "%s: %s\n", t.Name, text)
	}
	for _, t := range d.plan.Tables {
		if t.Stays != "" && t.Help != "" {
			note(t, t.Help)
		}
		for _, u := range t.Uses {
			if u.Inside != "" && u.Stays == "" && t.Raft != "" {
				note(t, fmt.Sprintf("in %s inside %s", u.Place, u.Inside))
			}
		}
		for _, text := range t.Notes {
			note(t, text)
		}
		if t.Source == nil {
			continue
		}
		for _, text := range t.Source.Notes {
			note(t, text)
		}
		for i, w := range t.Source.Warnings {
			if i == most {
				note(t, fmt.Sprintf("%d more such lines", len(t.Source.Warnings)-most))
				break
			}
			note(t, fmt.Sprintf("%s (taken as Postfix takes it)", w))
		}
	}
}

func places(t *adopt.Table) string {
	first := t.Uses[0].Place.String()
	seen := map[string]bool{}
	for _, u := range t.Uses {
		seen[u.Place.String()] = true
	}
	if len(seen) > 1 {
		first += fmt.Sprintf(" and %d more", len(seen)-1)
	}
	return first
}

func proxiedWord(t *adopt.Table) string {
	switch all, some := t.Proxied(); {
	case all:
		return "yes"
	case some:
		return "partly"
	default:
		return "no"
	}
}

func sized(t *adopt.Table, of func(*adopt.Source) any) any {
	if t.Source == nil {
		return "-"
	}
	return of(t.Source)
}

// becomes says in a few words what becomes of a table.
func (d *adoption) becomes(t *adopt.Table) string {
	if t.Raft == "" {
		return "stays: " + t.Stays
	}
	name := "proxy:raft:" + t.Raft
	switch {
	case d.done && t.Check != nil && len(t.Check.Differences) > 0:
		return name + ": imported, and answers differ"
	case d.done && t.Cache:
		return name + ": there"
	case d.done:
		return name + ": imported"
	}
	switch t.State {
	case adopt.Absent:
		return name + ": to be made"
	case adopt.Equal:
		return name + ": there, equal"
	case adopt.Differs:
		return fmt.Sprintf("%s: CONFLICT, there with other entries: %d would be added, %d changed, %d removed", name, t.Counts.Added, t.Counts.Changed, t.Counts.Removed)
	case adopt.Other:
		return name + ": CONFLICT, there as another type"
	}
	return name
}

// printCheck prints what was verified of a new and an old table, with the first differences.
func (d *adoption) printCheck(name, old string, c *adopt.Check) {
	if c.Equal() {
		fmt.Fprintf(d.out, "%s: %d keys asked of both, %d of them made to be absent: all answers are equal, %d of them a value\n", name, c.Keys, c.Absent, c.Found)
		return
	}
	fmt.Fprintf(d.out, "%s: %d of %d answers DIFFER\n", name, len(c.Differences), c.Keys)
	for i, diff := range c.Differences {
		if i == shownDifferences {
			fmt.Fprintf(d.out, "    and %d more\n", len(c.Differences)-i)
			break
		}
		fmt.Fprintf(d.out, "    %q: %s says %s, %s says %s\n", diff.Key, old, answer(diff.Postfix), name, answer(diff.Raft))
	}
}

func answer(a adopt.Answer) string {
	if !a.Found {
		return "nothing"
	}
	return fmt.Sprintf("%q", a.Value)
}

// printSteps prints what the operator has to do.
func (d *adoption) printSteps() error {
	s := d.steps
	if len(s.FrontEnd)+len(s.Change)+len(s.Aliases) == 0 {
		_, err := fmt.Fprintln(d.out, "\nThere is nothing to change.")
		return err
	}
	say := func(head string, lines ...string) {
		if len(lines) > 0 {
			fmt.Fprintf(d.out, "\n%s\n\n%s\n", head, strings.Join(lines, "\n"))
		}
	}
	if !d.done {
		fmt.Fprintln(d.out, "\nNothing was changed. --yes imports the tables and verifies them; then come these steps.")
	}
	if len(s.Aliases) > 0 {
		say("In postraft.cf on each relay, and then SIGHUP to its agent:", s.Aliases...)
	}
	change := append(append([]string{}, s.FrontEnd...), s.Change...)
	if len(change) > 0 {
		say("To bring Postfix onto the raft tables (all of it also with --lines change):", append(change, d.conf.Reload())...)
	}
	if s.Check != "" {
		say("To compare the answers then:", s.Check)
	}
	if len(s.Back) > 0 {
		say("The way back (also with --lines back; keep it, it is not known after the change):", append(s.Back, d.conf.Reload())...)
	}
	if notes := d.notes(); len(notes) > 0 {
		fmt.Fprintln(d.out)
		for _, n := range notes {
			fmt.Fprintln(d.out, "Note: "+n)
		}
	}
	return nil
}
