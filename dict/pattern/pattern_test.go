package pattern

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"postraft/dict"
)

func compileOK(t *testing.T, typ, text string) *Rules {
	t.Helper()
	r, err := Compile(typ, []byte(text))
	if err != nil {
		t.Fatalf("%s table: %v\n%s", typ, err, text)
	}
	return r
}

// TestRules_Lookup ensures the answers of small tables, one rule of their manual pages after the other.
func TestRules_Lookup(t *testing.T) {
	for _, test := range []struct {
		name, typ, text string
		want            map[string]string // "-" is not found
	}{
		{"cidr first match", dict.TypeCIDR, "10.1.0.0/16 a\n10.0.0.0/8 b\n10.1.2.3 never\n::/0 six\n", map[string]string{"10.1.2.3": "a", "10.2.0.0": "b", "11.0.0.0": "-", "fe80::1": "six", "x": "-", "": "-"}},
		{"cidr negated", dict.TypeCIDR, "!10.0.0.0/8 out\n! !10.1.0.0/16 in\n", map[string]string{"9.255.255.255": "out", "11.0.0.0": "out", "255.255.255.255": "out", "10.1.9.9": "in", "10.2.0.0": "-", "::1": "-"}},
		{"cidr if", dict.TypeCIDR, "if 10.0.0.0/8\nIF !10.1.0.0/16\n0.0.0.0/0 a\nendif\n10.1.2.0/24 b\n::/0 never\nENDIF\n0.0.0.0/0 c\n::/0 six\n", map[string]string{"10.2.0.1": "a", "10.1.2.9": "b", "10.1.3.1": "c", "1.1.1.1": "c", "::": "six"}},
		{"cidr forms", dict.TypeCIDR, "[10.0.0.0]/8 a\n[11.0.0.0/8] b\n[12.0.0.1] c\n::ffff:0:0/96 mapped\n255.255.255.255 last\nffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff last6\n", map[string]string{
			"10.9.9.9": "a", "11.1.1.1": "b", "12.0.0.1": "c", "12.0.0.2": "-", "::ffff:10.0.0.1": "mapped", "255.255.255.255": "last", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff": "last6", "010.0.0.1": "-", "fe80::1%lo": "-"}},
		{"continued, with comments", dict.TypeCIDR, "# first\n10.0.0.0/8\n# between\n\ttwo words \n\n  \n", map[string]string{"10.0.0.1": "two words"}},
		{"regexp case", dict.TypeRegexp, "/^Foo$/ any\n/^bar$/i exact\n/b.r/x basic\n", map[string]string{"fOO": "any", "bar": "exact", "BAR": "basic", "b.": "-"}},
		{"regexp second pattern", dict.TypeRegexp, "/^a(.*)$/!/x/ <$1>\n/x/!!/y/ both\n", map[string]string{"abc": "<bc>", "ax": "-", "axy": "both"}},
		{"regexp longest", dict.TypeRegexp, "/(a|ab)(c|bcd)?/ <$1|$2>\n", map[string]string{"abcd": "<a|bcd>", "ab": "<ab|>"}},
		{"regexp of glibc", dict.TypeRegexp, `/\<foo\>/ word` + "\n" + `/^(.)\1$/ twice` + "\n" + `/^\w+\s\W$/ classes` + "\n", map[string]string{"a foo b": "word", "afoo": "-", "xX": "twice", "xy": "-", "ab -": "classes"}},
		{"regexp brackets", dict.TypeRegexp, "/^[[:digit:][.-.]]+$/ digits\n/^[]a]$/ bracket\n/^[^]a-c]$/ other\n", map[string]string{"1-2": "digits", "]": "bracket", "b": "-", "z": "other"}},
		{"results", dict.TypePCRE, `/^(a)(b)?$/ $$1 ${1}x$(1)${2}.` + "\n", map[string]string{"a": "$1 axa.", "AB": "$1 AxAB."}},
		{"if and negation", dict.TypePCRE, "if /^Subject:/\n/spam/ REJECT\nif !/ok/\n/./ HOLD\nendif\n/ok/ OK\nendif\n!/:/ none\n", map[string]string{"Subject: spam": "REJECT", "Subject: x": "HOLD", "Subject: ok": "OK", "From: spam": "-", "spam": "none"}},
		{"pcre flags", dict.TypePCRE, "/^a.b$/s A\n/^c$/m C\n/ d e /x DE\n/f/A F\n/(g+)/U <$1>\n/^h$/E H\n", map[string]string{"a\nb": "-", "axb": "A", "x\nc\ny": "C", "xdex": "DE", "f": "F", "xf": "-", "ggg": "<g>", "h\n": "-", "h": "H"}},
		{"pcre beyond the regular", dict.TypePCRE, `/^(?!.*no)(?<w>\w)\k<w>(?=x)x++$/ $1` + "\n" + `/^(\((?:[^()]|(?1))*\))$/ nested` + "\n" + `/^(?>a*)ab|^(?(?=c)cd|ef)$/ x` + "\n", map[string]string{
			"aaxx": "a", "aay": "-", "(a(b)c)": "nested", "(a(b)c": "-", "aab": "-", "cd": "x", "ef": "x"}},
		{"pcre optional assertion", dict.TypePCRE, `/^(a)b(?:\b)?c(?|\z)??d(?i:^)*$/ $1` + "\n", map[string]string{"abcd": "a", "abc": "-"}},
		{"pcre spelled out", dict.TypePCRE, `/^(*nla:b)(*atomic:a+)(*plb:aa)c(*positive_lookahead:d)/ x` + "\n", map[string]string{"aacd": "x", "acd": "-", "aace": "-"}},
		{"pcre anchored, calling itself", dict.TypePCRE, `/a(?R)?b/A x` + "\n", map[string]string{"aabb": "x", "ab": "x", "cab": "-"}},
		{"pcre quoted nothing", dict.TypePCRE, `/^(a+\Q\E?)/ <$1>` + "\n", map[string]string{"aa": "<a>"}},
		{"bytes", dict.TypePCRE, `/^.\xe9$/ byte` + "\n" + `/^..$/ two` + "\n", map[string]string{"a\xe9": "byte", "é": "two", "É": "two", "a\xc9": "two"}},
		{"delimiters", dict.TypePCRE, `"^a/b\"$" quoted` + "\n" + `;^c\;$; semicolon` + "\n", map[string]string{"a/b\"": "quoted", "c;": "semicolon"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := compileOK(t, test.typ, test.text)
			for key, want := range test.want {
				value, found, err := r.Lookup([]byte(key))
				got := string(value)
				if !found {
					got = "-"
				}
				if err != nil || got != want {
					t.Errorf("%q: got %q, %v, want %q", key, got, err, want)
				}
			}
		})
	}
}

// TestRules_Match ensures that a match names its rule, and that NO_REGSUB leaves out rules with $number.
func TestRules_Match(t *testing.T) {
	r := compileOK(t, dict.TypeRegexp, "# a comment\n\n/^(a)b/\n  <$1>\n/a/ plain\n")
	m, err := r.Match([]byte("ab"), 0)
	if err != nil || m.Line != 3 || m.Rule != "/^(a)b/  <$1>" || string(m.Value) != "<a>" {
		t.Errorf("got %+v, %v", m, err)
	}
	if m, err := r.Match([]byte("ab"), dict.NoRegSub|dict.FoldFix); err != nil || m.Line != 5 || string(m.Value) != "plain" {
		t.Errorf("with NO_REGSUB: %+v, %v", m, err)
	}
	if r.Len() != 2 || r.Type() != dict.TypeRegexp {
		t.Errorf("%d rules of type %s", r.Len(), r.Type())
	}
}

// TestCompile_Refuses ensures that each line that Postfix skips or warns about is named, that none is a part of
// the table when skipping was asked for, and that nothing else is.
func TestCompile_Refuses(t *testing.T) {
	for _, test := range []struct{ typ, rule, why string }{
		{dict.TypeCIDR, "1.2.3.4/33 x", "bad mask length"}, {dict.TypeCIDR, "1.2.3.4/ x", "bad mask value"}, {dict.TypeCIDR, "1.2.3/24 x", "bad network value"},
		{dict.TypeCIDR, "1.2.3.4/24 x", `use "1.2.3.0/24" instead`}, {dict.TypeCIDR, "1.2.3.4", "no lookup result"}, {dict.TypeCIDR, "name x", "bad address pattern"},
		{dict.TypeCIDR, "[1.2.3.4 x", "missing ']'"}, {dict.TypeCIDR, "!", "no address pattern"}, {dict.TypeCIDR, "if", "no address pattern"}, {dict.TypeCIDR, "endif", "ENDIF without IF"},
		{dict.TypeCIDR, "if ::/0", "no matching ENDIF"}, {dict.TypeCIDR, " 1.2.3.4 x", "white space at the start"},
		{dict.TypeRegexp, "/a", "no closing delimiter"}, {dict.TypeRegexp, "/a/q x", "unknown option"}, {dict.TypeRegexp, "/a/", "no replacement text"}, {dict.TypeRegexp, "!", "no pattern"},
		{dict.TypeRegexp, "/a/ $1", "out of range"}, {dict.TypeRegexp, "/(a)/ $0", "out of range"}, {dict.TypeRegexp, "/(a)/ $1x", "non-numeric"}, {dict.TypeRegexp, "/(a)/ $", "empty macro name"},
		{dict.TypeRegexp, "/(a)/ ${1", "truncated"}, {dict.TypeRegexp, "!/(a)/ $1", "negative match"}, {dict.TypeRegexp, "/[b-a]/ x", "invalid range end"}, {dict.TypeRegexp, "/*a/ x", "invalid preceding"},
		{dict.TypeRegexp, `/\1(a)/ x`, "invalid back reference"}, {dict.TypeRegexp, `/(a)|b\1/ x`, "invalid back reference"}, {dict.TypeRegexp, "/a{2,1}/ x", "invalid content"}, {dict.TypeRegexp, "/a/ x\nendif", "ENDIF without IF"}, {dict.TypeRegexp, "word x", "neither"},
		{dict.TypeRegexp, "/((a{1000}){1000}){1000}/ x", "too large"}, {dict.TypeRegexp, "/" + strings.Repeat("(", 5000) + "/ x", "too big"},
		{dict.TypePCRE, "/(?:(?:(?:){65535}){65535}){65535}/ x", "too large"}, {dict.TypePCRE, "/(?<=(?1))(a(?2)(?2))(b(?1)(?1))/ x", "not fixed length"},
		{dict.TypePCRE, "/(/ x", "missing closing parenthesis"}, {dict.TypePCRE, "/a**/ x", "quantifier"}, {dict.TypePCRE, "/a/X x", "obsolete"}, {dict.TypePCRE, "/(*UTF)a/ x", "not served"},
		{dict.TypePCRE, "/a(*COMMIT)b/ x", "not served"}, {dict.TypePCRE, "/(?<=a*)/ x", "not fixed length"}, {dict.TypePCRE, `/\1/ x`, "non-existent"}, {dict.TypePCRE, "/(?C)a/ x", "callout"},
		{dict.TypePCRE, `/\x{100}/ x`, "bad character code"}, {dict.TypePCRE, "if /a/ b", "extra text after IF"}, {dict.TypePCRE, "/" + strings.Repeat("(", 5000) + "/ x", "deeply nested"},
	} {
		text := "\n# x\n" + test.rule + "\n"
		_, err := Compile(test.typ, []byte(text))
		var bad *dict.SourceError
		if !errors.As(err, &bad) || !errors.Is(err, dict.ErrBadSource) || !strings.Contains(err.Error(), test.why) {
			t.Errorf("%s %.40q: got %.200v, want %q", test.typ, test.rule, err, test.why)
			continue
		}
		if line := bad.Problems[0].Line; line < 3 || line > 4 {
			t.Errorf("%s %.40q: line %d", test.typ, test.rule, line)
		}
		unserved := errors.Is(err, dict.ErrUnserved)
		if want := strings.Contains(err.Error(), "not served"); unserved != want {
			t.Errorf("%s %.40q: %v: unserved %v", test.typ, test.rule, err, unserved)
		}
		r, warnings, err := CompileLenient(test.typ, []byte(text))
		if unserved {
			if !errors.Is(err, dict.ErrUnserved) || !errors.As(err, &bad) { // Postfix obeys it, so it is not to be skipped
				t.Errorf("%s %.40q, lenient: %v, %v", test.typ, test.rule, warnings, err)
			}
			continue
		}
		if err != nil || r == nil || len(warnings) == 0 {
			t.Errorf("%s %.40q, lenient: %v, %v", test.typ, test.rule, warnings, err)
		}
	}
	if _, err := Compile("paper", nil); !errors.Is(err, dict.ErrBadSource) {
		t.Errorf("unknown type: %v", err)
	}
}

// TestRules_Hostile ensures that no key costs more than it may, whatever the rule: it is answered, or the answer
// is that it cannot be known.
func TestRules_Hostile(t *testing.T) {
	long := strings.Repeat("a", 100_000)
	for _, test := range []struct{ typ, text, key string }{
		{dict.TypePCRE, "/^(a+)+$/ x", strings.Repeat("a", 3000) + "!"},
		{dict.TypePCRE, "/^(a|aa)+$/ x", strings.Repeat("a", 3000) + "!"},
		{dict.TypePCRE, "/^(a*)*$/ x", strings.Repeat("a", 40) + "!"},
		{dict.TypePCRE, `/^(a+)+\1!$/ x`, strings.Repeat("a", 40)},
		{dict.TypePCRE, "/^(?=(a+)+$)/ x", strings.Repeat("a", 40) + "!"},
		{dict.TypePCRE, "/(x+x+)+y/ x", strings.Repeat("x", 60)},
		{dict.TypePCRE, "/^(?R)?b/ x", "ab"},
		{dict.TypePCRE, "/^(a(?1)?)*$/ x", strings.Repeat("a", 60) + "!"},
		{dict.TypePCRE, "/(.*)(.*)(.*)(.*)(.*)x$/ <$5>", long},
		{dict.TypePCRE, "/(?>(a+)+)b/ x", long[:16<<10]},
		{dict.TypePCRE, "/(a(?1)?(?1)?b?)+c/ x", long[:16<<10]},
		{dict.TypePCRE, `/(\((?:[^()]|(?1))*\))x/ x`, strings.Repeat("(", 16<<10)},
		{dict.TypePCRE, "/a.{1,500}.{1,500}.{1,500}b/ x", long[:16<<10]},
		{dict.TypePCRE, "/" + strings.Repeat("(a)?", 990) + "(?!x)y/ x", strings.Repeat("ay", 8<<10)},
		{dict.TypeRegexp, "/(a{1,200}){1,150}b/ $1", long[:16<<10]},
		{dict.TypeRegexp, "/^(a|aa)*(a|aa)*(a|aa)*$/ <$1>", strings.Repeat("a", 5000) + "!"},
		{dict.TypeRegexp, `/^(a*)*\1(a*)*\2!$/ x`, long},
		{dict.TypeRegexp, "/(a|b|ab)*bc{1,200}d/ <$1>", long},
	} {
		r := compileOK(t, test.typ, test.text+"\n")
		start := time.Now()
		_, _, err := r.Lookup([]byte(test.key))
		if took := time.Since(start); took > 10*MaxTime { // with the race detector and other tests beside it
			t.Errorf("%.60s: %v", test.text, took)
		}
		if err != nil && (!errors.Is(err, dict.ErrRetry) || !strings.Contains(err.Error(), "line 1")) {
			t.Errorf("%s: %v", test.text, err)
		}
		t.Logf("%-40.60s %v %v", test.text, time.Since(start).Round(time.Microsecond), err)
	}
}

// TestRules_Together ensures that rules can be used by many goroutines at once.
func TestRules_Together(t *testing.T) {
	var text strings.Builder
	for i := range 200 {
		fmt.Fprintf(&text, "/^(.*)-%d@/ <$1> %d\n", i, i)
	}
	r := compileOK(t, dict.TypeRegexp, text.String())
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 500 {
				n := (i*7 + g) % 200
				value, found, err := r.Lookup(fmt.Appendf(nil, "u%d-%d@x", g, n))
				if want := fmt.Sprintf("<u%d> %d", g, n); err != nil || !found || string(value) != want {
					t.Errorf("got %q, %v, %v, want %q", value, found, err, want)
					return
				}
			}
		})
	}
	all.Wait()
}

// TestEntries ensures that a text becomes entries and comes back.
func TestEntries(t *testing.T) {
	text := "# a\n\n/a/ b\r\n  more\nlast"
	if got := string(Text(Entries([]byte(text)))); got != text+"\n" {
		t.Errorf("got %q", got)
	}
	if err := CheckEntries(dict.TypePCRE, Entries([]byte(text))); err != nil {
		t.Error(err)
	}
	if err := CheckEntries(dict.TypePCRE, func(yield func(k, v []byte) bool) { yield([]byte("00000002"), nil) }); !errors.Is(err, dict.ErrBadSource) {
		t.Errorf("entries that begin with line 2: %v", err)
	}
	if err := CheckEntries(dict.TypePCRE, Entries([]byte("/a\x00/ b\n"))); !errors.Is(err, dict.ErrBadSource) {
		t.Errorf("a NUL byte: %v", err)
	}
}
