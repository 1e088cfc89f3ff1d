package master

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestParseArgs ensures that every form in which master and operators write options is read as a C daemon
// reads it.
func TestParseArgs(t *testing.T) {
	base := func(change func(*Options)) Options {
		o := Options{Program: "postraft-proxymap", Name: "postraft-proxymap", Sockets: 1, Own: map[string]string{}}
		change(&o)
		return o
	}
	tests := []struct {
		args string // words are divided by |
		want Options
	}{
		{"-n|proxymap|-t|unix|-u", base(func(o *Options) { o.Name, o.Type, o.Unprivileged = "proxymap", "unix", true })},
		{"-l|-n|proxywrite|-t|unix|-u", base(func(o *Options) {
			o.Alone, o.Name, o.Type, o.Unprivileged = true, "proxywrite", "unix", true
		})},
		{"-n|127.0.0.1:2525|-t|inet|-u|-o|stress=", base(func(o *Options) {
			o.Name, o.Type, o.Unprivileged, o.Parameters = "127.0.0.1:2525", "inet", true, []Parameter{{"stress", ""}}
		})},
		{"-lucz|-ofoo=bar|-o|a = b c", base(func(o *Options) {
			o.Alone, o.Unprivileged, o.Chroot, o.Unlimited = true, true, true, true
			o.Parameters = []Parameter{{"foo", "bar"}, {"a", "b c"}}
		})},
		{"-vvuv|-d|-D|-S|-V", base(func(o *Options) {
			o.Verbose, o.Unprivileged, o.Foreground, o.Debugger, o.Stream, o.StandardErr = 3, true, true, true, true, true
		})},
		{"-n|a|-t|unix|-nb|-i|30|-m7|-s2", base(func(o *Options) {
			o.Name, o.Type, o.MaxIdle, o.MaxUse, o.Sockets = "b", "unix", 30*time.Second, 7, 2
		})},
		{"-t|unix|--run-dir|/run/x|-o|a=b=c|word|-u", base(func(o *Options) {
			o.Type, o.Own["run-dir"], o.Parameters, o.Args = "unix", "/run/x", []Parameter{{"a", "b=c"}}, []string{"word", "-u"}
		})},
		{"--run-dir=/run/y|--|-u", base(func(o *Options) { o.Own["run-dir"], o.Args = "/run/y", []string{"-u"} })},
	}
	for _, tt := range tests {
		got, err := ParseArgs(append([]string{"postraft-proxymap"}, strings.Split(tt.args, "|")...), "run-dir")
		if err != nil {
			t.Errorf("%s: %v", tt.args, err)
			continue
		}
		if len(got.Args) == 0 {
			got.Args = nil
		}
		if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", tt.args, got, tt.want)
		}
	}
	for _, bad := range []string{
		"-x", "-n", "-o|novalue", "-o|=x", "-o|a b=c", "-i|soon", "-m|-1", "-s|0", "-s|100000",
		"-t|pass", "-t|tcp", "--run-dir", "--other|x", "-ui",
	} {
		if got, err := ParseArgs(append([]string{"p"}, strings.Split(bad, "|")...), "run-dir"); err == nil {
			t.Errorf("%s: accepted as %+v", bad, got)
		}
	}
	if _, err := ParseArgs(nil); err == nil {
		t.Error("no argv: accepted")
	}
}

// TestOptions_Parameter ensures that the last -o of a name counts, and that the process is named in logs
// by the last component of the command.
func TestOptions_Parameter(t *testing.T) {
	o, err := ParseArgs([]string{"../../local/sbin/postraft-proxymap", "-o", "a=1", "-o", "a=2"})
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := o.Parameter("a"); v != "2" || !ok {
		t.Errorf("a = %q, %v", v, ok)
	}
	if _, ok := o.Parameter("b"); ok {
		t.Error("b is set")
	}
	if o.Process() != "postraft-proxymap" || o.Name != "postraft-proxymap" {
		t.Errorf("process %q, name %q", o.Process(), o.Name)
	}
}

func FuzzParseArgs(f *testing.F) {
	f.Add("-n|proxymap|-t|unix|-u|-o|a=b|--run-dir|x")
	f.Add("-lucz|-ofoo=bar")
	f.Fuzz(func(t *testing.T, words string) {
		argv := append([]string{"p"}, strings.Split(words, "|")...)
		o, err := ParseArgs(argv, "run-dir")
		if err == nil && (o.Sockets < 1 || o.Sockets > maxSockets || o.MaxIdle < 0 || o.MaxUse < 0) {
			t.Errorf("%q: out of bounds: %+v", words, o)
		}
	})
}

// TestReadEnvironment ensures that GENERATION is read as octal.
func TestReadEnvironment(t *testing.T) {
	vars := map[string]string{"GENERATION": "31", "MAIL_CONFIG": "/c", "POSTLOG_SERVICE": "/p", "POSTLOG_HOSTNAME": "h.x"}
	got, err := ReadEnvironment(func(name string) string { return vars[name] })
	want := Environment{ConfigDir: "/c", LogTag: "postfix", PostlogPath: "/p", PostlogHost: "h.x", Generation: 25, Managed: true}
	if err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []string{"9", "-1", "x", "77777777777777"} {
		vars["GENERATION"] = bad
		if got, err := ReadEnvironment(func(name string) string { return vars[name] }); err == nil {
			t.Errorf("GENERATION=%s: %s", bad, fmt.Sprint(got.Generation))
		}
	}
	if got, err := ReadEnvironment(func(string) string { return "" }); err != nil || got.Managed || got.ConfigDir != "/etc/postfix" {
		t.Errorf("empty environment: %+v, %v", got, err)
	}
}
