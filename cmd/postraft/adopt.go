package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"postraft/ops"
	"postraft/ops/adopt"
	"postraft/proxy"
)

// adoption is one run of postraft adopt.
type adoption struct {
	*app
	configDir string
	opts      adopt.Options
	names     []string
	yes       bool
	verify    bool
	lines     string

	postfix adopt.Commands
	plan    *adopt.Plan
	status  *ops.Status // nil if the agent was not reached
	away    error       // why it was not
	done    bool        // imported and verified
	steps   *adopt.Steps
	conf    adopt.StepsConfig
}

func (a *app) adoptCmd() *cobra.Command {
	var d adoption
	cmd := &cobra.Command{
		Use:   "adopt [--yes] | adopt --verify TABLE=NAME...",
		Short: "Bring the tables of a Postfix instance onto raft tables",
		Long: `Reads main.cf and master.cf and shows every table that Postfix uses: where, its source and size, and whether it can
become a raft table, or why not. With --yes it imports those that can, and asks Postfix's own tables and the raft
tables for every key, for keys in other case, and for 1000 keys that are in neither; exit 1 if an answer differs.
Without --yes it changes nothing at all. In either case it prints the lines for the shell that bring Postfix onto the
raft tables, and those that bring it back. It never changes main.cf or master.cf itself, nor the files of tables.

After the change, --verify compares the answers once more, those of the old tables and those that Postfix's processes
get through proxymap; the plan ends with that command in full.`,
		Example: `  postraft adopt
  postraft adopt --lines back >back.sh
  postraft adopt --yes --lines change >change.sh`,
		Args: func(cmd *cobra.Command, args []string) error {
			if d.verify {
				return want(1, 10000)(cmd, args)
			}
			return want(0, 0)(cmd, args)
		},
		RunE: action(func(ctx context.Context, args []string) error {
			d.app = a
			if err := d.prepare(); err != nil {
				return err
			}
			if d.verify {
				return d.compare(ctx, args)
			}
			return d.run(ctx)
		}),
	}
	f := cmd.Flags()
	f.StringVar(&d.configDir, "config-dir", "", "configuration `directory` of the Postfix instance, instead of postconf's own")
	f.StringArrayVar(&d.opts.Only, "only", nil, "only this `parameter`, table or raft table; may be repeated")
	f.StringVar(&d.opts.Prefix, "prefix", "", "what the names of raft tables shall begin with")
	f.StringArrayVar(&d.names, "name", nil, "`TABLE=NAME` of a raft table, instead of the name of the file; may be repeated")
	f.BoolVar(&d.opts.Alias, "alias", false, "main.cf goes on with the names of tables that are proxied already: lines for postraft.cf instead")
	f.BoolVar(&d.opts.Caches, "caches", false, "share the caches of verify(8), postscreen(8) and smtp(8) too, empty at first")
	f.BoolVar(&d.opts.Replace, "replace", false, "replace raft tables of the same name that hold something else")
	f.BoolVar(&d.yes, "yes", false, "import the tables and verify them")
	f.BoolVar(&d.verify, "verify", false, "compare tables with what proxymap answers for raft tables, and do nothing else")
	f.StringVar(&d.lines, "lines", "", "print only the lines for the shell: `change or back`")
	cmd.MarkFlagsMutuallyExclusive("verify", "yes")
	cmd.MarkFlagsMutuallyExclusive("verify", "lines")
	cmd.MarkFlagsMutuallyExclusive("verify", "alias")
	return cmd
}

func (d *adoption) prepare() (err error) {
	switch d.lines {
	case "", "change", "back":
	default:
		return ops.Errorf(ops.Usage, "--lines %s: want change or back", d.lines)
	}
	if d.configDir != "" {
		if d.configDir, err = filepath.Abs(d.configDir); err != nil {
			return err
		}
		if _, err := os.Stat(filepath.Join(d.configDir, "main.cf")); err != nil {
			return ops.Errorf(ops.Usage, "--config-dir: %v", err)
		}
	}
	if d.opts.Names, err = tableNames(d.names); err != nil {
		return err
	}
	d.postfix = adopt.Commands{ConfigDir: d.configDir}
	d.conf = adopt.StepsConfig{ConfigDir: d.configDir, Approved: d.approved}
	if d.runDir != defaultRunDir {
		if d.conf.RunDir, err = filepath.Abs(d.runDir); err != nil {
			return err
		}
	}
	return nil
}

// tableNames reads TABLE=NAME words.
func tableNames(words []string) (map[string]string, error) {
	names := map[string]string{}
	for _, w := range words {
		table, name, err := parseAlias(w)
		if err != nil {
			return nil, ops.Errorf(ops.Usage, "%v", err)
		}
		names[table] = name
	}
	return names, nil
}

// approved asks Postfix which tables its proxymap services approve with these settings.
func (d *adoption) approved(ctx context.Context, overrides []string) (read, write func(string) bool, err error) {
	instance, err := proxy.AskPostfix(ctx, ops.PostfixCommand("postconf"), d.configDir, overrides)
	if err != nil {
		return nil, nil, ops.Errorf(ops.Config, "%v", err)
	}
	return proxy.ParseApproval(instance.ReadMaps).Allows, proxy.ParseApproval(instance.WriteMaps).Allows, nil
}

func (d *adoption) run(ctx context.Context) error {
	settings, err := adopt.Read(ctx, d.postfix)
	if err != nil {
		return ops.Errorf(ops.Config, "%v", err).Advise("it needs Postfix on this host; choose its configuration with --config-dir")
	}
	if d.plan, err = adopt.NewPlan(settings, d.opts); err != nil {
		return err
	}
	if err := d.plan.Load(ctx, d.postfix); err != nil {
		return err
	}
	if err := d.look(ctx); err != nil {
		return err
	}
	tables := d.plan.Shared()
	if d.yes && len(tables) > 0 {
		client := d.bulkClient(d.plan.Total())
		if err := d.plan.Import(ctx, client); err != nil {
			return err
		}
		if err := d.plan.Verify(ctx, d.postfix, client); err != nil {
			kind := ops.Classify(err).Kind
			if kind == ops.Internal { // a command of Postfix
				kind = ops.Config
			}
			return ops.Errorf(kind, "the tables were imported, and could not be verified: %v", err).Advise("Postfix goes on as before; try again")
		}
		d.done = true
		tables = d.plan.Proved()
	}
	if d.status != nil {
		d.conf.Aliases = d.status.Aliases
	}
	if d.steps, err = d.plan.Steps(ctx, tables, d.conf); err != nil {
		return err
	}
	if err := d.print(); err != nil {
		return err
	}
	if len(tables) < len(d.plan.Shared()) {
		return errQuiet
	}
	return nil
}

// look asks the agent what is there. A plan can do without.
func (d *adoption) look(ctx context.Context) error {
	status, err := d.client().Status(ctx)
	if err == nil {
		d.plan.Aliases(status.Aliases)
		err = d.plan.Look(ctx, d.bulkClient(d.plan.Total()))
	}
	if err == nil {
		d.status = &status
	}
	missing := ""
	for _, t := range d.plan.Shared() {
		if t.State != adopt.Equal && missing == "" {
			missing = t.Raft
		}
	}
	switch {
	case err != nil && (d.yes || d.lines == "change"):
		return err
	case d.lines == "change" && !d.yes && missing != "":
		return ops.Errorf(ops.BadData, "the raft table %s does not hold what it should", missing).Advise("import the tables first, with --yes")
	}
	d.away = err
	return nil
}

// compare is adopt --verify.
func (d *adoption) compare(ctx context.Context, args []string) error {
	var pairs []*adopt.Pair
	for _, arg := range args {
		pair, err := adopt.ParsePair(arg)
		if err != nil {
			return err
		}
		if err := d.haveAlias(ctx, pair.Aliased()); err != nil {
			return err
		}
		pairs = append(pairs, pair)
	}
	settings, err := adopt.Read(ctx, d.postfix)
	if err != nil {
		return ops.Errorf(ops.Config, "%v", err)
	}
	if err := adopt.VerifyPairs(ctx, d.postfix, pairs, settings.UTF8()); err != nil {
		return ops.Errorf(ops.Retry, "%v", err).Advise("Postfix's log and postraft status may say more")
	}
	list := []jsonPair{}
	equal := true
	for _, p := range pairs {
		equal = equal && p.Check.Equal()
		list = append(list, jsonPair{p.Old, p.New, newJSONCheck(p.Check)})
		if !d.json {
			d.printCheck(p.New, p.Old, p.Check)
		}
	}
	if d.json {
		err = printJSON(d.out, list)
	}
	if err == nil && !equal {
		err = errQuiet
	}
	return err
}

// haveAlias checks that the agent has an alias for one of the tables, if there are any.
func (d *adoption) haveAlias(ctx context.Context, tables []string) error {
	if len(tables) == 0 {
		return nil
	}
	status, err := d.client().Status(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(status.Aliases, func(a ops.Alias) bool { return slices.Contains(tables, a.Name) }) {
		return nil
	}
	return ops.Errorf(ops.Config, "the agent has no alias for %s", strings.Join(tables, " or ")).Advise("put it into postraft.cf, and send SIGHUP to the agent")
}

// print shows the plan and what was done, or only the lines for the shell.
func (d *adoption) print() error {
	switch {
	case d.lines == "back" && len(d.steps.Back) == 0:
		return ops.Errorf(ops.NotFound, "there is nothing to change, and so no way back")
	case d.lines == "back":
		return d.printLines(d.steps.Back)
	case d.lines == "change":
		for _, t := range d.plan.Shared() {
			if !t.Check.Equal() {
				fmt.Fprintln(d.err, oneLine("postraft: warning: %s is left out: %d of %d answers differ; see: postraft adopt --yes", t.Name, len(t.Check.Differences), t.Check.Keys))
			}
		}
		for _, line := range d.steps.Aliases {
			fmt.Fprintf(d.out, "# postraft.cf: %s\n", line)
		}
		return d.printLines(append(d.steps.FrontEnd, d.steps.Change...))
	case d.json:
		return printJSON(d.out, d.document())
	}
	return d.printPlan()
}

// printLines prints lines for the shell, and a reload if there are any.
func (d *adoption) printLines(lines []string) error {
	if len(lines) == 0 {
		return nil
	}
	_, err := fmt.Fprintln(d.out, strings.Join(append(lines, d.conf.Reload()), "\n"))
	return err
}

// noAgent says in a few words why the agent was not asked.
func noAgent(err error) string {
	var e *ops.Error
	if errors.As(err, &e) {
		return e.Text
	}
	return err.Error()
}
