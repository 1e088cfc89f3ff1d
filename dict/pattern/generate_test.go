package pattern

import (
	"fmt"
	"strings"
)

// network makes a pattern of a cidr table; now and then it is none.
func (g *generator) network() string {
	if g.IntN(25) == 0 {
		return pick(g, "1.2.3", "1.2.3.4/33", "1.2.3.4/", "1.2.3.4/x", "[1.2.3.0/24", "[1.2.3.4]x", "1.2.3.4/24", "::1/129", "01.2.3.4", "1:2", "::1/64",
			"[1.2.3.0/24]/24", "[]", "/24", "::ffff:1.2.3.4/120", "fe80::1%lo", "1.2.3.4/-1", "::/", "1.2.3.4/24x", ":::", "1.2.3.4.5", "256.1.1.1", "x")
	}
	if g.IntN(3) > 0 {
		bits := pick(g, 0, 1, 4, 8, 12, 15, 16, 20, 22, 23, 24, 25, 28, 30, 31, 32, 32, 32)
		a := g.v4() &^ (1<<(32-bits) - 1)
		s := fmt.Sprintf("%d.%d.%d.%d", a>>24, a>>16&255, a>>8&255, a&255)
		return g.bracketed(s, bits, 32)
	}
	words := g.v6()
	bits := pick(g, 0, 16, 32, 48, 64, 80, 96, 112, 128, 128)
	for i := range words {
		if i*16 >= bits {
			words[i] = 0
		}
	}
	return g.bracketed(g.v6text(words), bits, 128)
}

func (g *generator) bracketed(s string, bits, all int) string {
	mask := fmt.Sprintf("/%d", bits)
	if bits == all && g.IntN(2) == 0 {
		mask = ""
	}
	switch g.IntN(8) {
	case 0:
		return "[" + s + "]" + mask
	case 1:
		return "[" + s + mask + "]"
	}
	return s + mask
}

func (g *generator) v4() uint64 {
	a := uint64(0)
	for range 4 {
		a = a<<8 | uint64(pick(g, 0, 1, 2, 10, 127, 128, 192, 254, 255, g.IntN(256)))
	}
	return a
}

func (g *generator) v6() (words [8]int) {
	for i := range words {
		words[i] = pick(g, 0, 0, 0, 1, 0xffff, 0x2001, 0xdb8, 0x8000)
	}
	return words
}

func (g *generator) v6text(words [8]int) string {
	var parts []string
	for _, w := range words {
		parts = append(parts, fmt.Sprintf("%x", w))
	}
	s := strings.Join(parts, ":")
	if at := strings.Index(s, ":0:0:"); at >= 0 && g.IntN(2) == 0 && strings.Count(s[at:], ":0:0:") >= 1 {
		s = s[:at] + "::" + s[at+5:]
	}
	return s
}

func (g *generator) address() string {
	switch g.IntN(14) {
	case 0:
		return pick(g, "1.2.3", "x", "1.2.3.4.5", "01.2.3.4", "1.2.3.256", "::g", "1:2:3", "::1%lo", "1.2.3.4/32", "[::1]", "::ffff:1.2.3.4", "::1.2.3.4", "1::2::3", "1:2:3:4:5:6:7::",
			"::1:2:3:4:5:6:7:8", "::ffff:01.2.3.4", "00001::", "0001::", "1.2.3.4 ", "::ffff:102:304", "ABCD::1", ":1", "1:", "::", "0.0.0.0", "1.2..4", "+1.2.3.4")
	case 1, 2, 3, 4:
		return g.v6text(g.v6())
	}
	a := g.v4()
	return fmt.Sprintf("%d.%d.%d.%d", a>>24, a>>16&255, a>>8&255, a&255)
}

// atom makes a simple part that both kinds of expressions know.
func (g *generator) atom() string {
	return pick(g, "a", "b", "c", "A", "ab", "foo", "Foo", "bar", "@", `\.`, ".", "1", "2", "x", "z", "Z", "-", "_", "[ab]", "[^ab]", "[a-c]", "[A-Z]", "[[:alpha:]]", "[[:digit:]_]",
		"[^[:upper:]]", "[[:lower:]]", "[]a]", "[^]a]", "[a-]", "[0-9]+", "[a.]", ".*", "[[:space:]]", `\w`, `\W`, `\s`, `\S`, "[x-z1]", "é", "[[:punct:]]", `\/`, ":")
}

// topDepth is the depth of a whole pattern. Only there are anchors made for regcomp(3): of those in repeated
// groups glibc remembers, from one key to the next, more than is so, and answers by what it was asked before.
const topDepth = 3

// posix makes a pattern for regcomp(3), without an empty branch between others: whether glibc's groups then hold that
// or the next one depends on what is around it.
func (g *generator) posix(depth int, basic bool) string {
	var b strings.Builder
	if depth == topDepth && g.IntN(2) == 0 {
		b.WriteString("^")
	}
	open, shut, or, plus, brace, close := "(", ")", "|", "+", "{", "}"
	if basic {
		open, shut, or, plus, brace, close = `\(`, `\)`, `\|`, `\+`, `\{`, `\}`
	}
	for range 1 + g.IntN(3) {
		switch g.IntN(10) {
		case 0, 1, 2:
			if depth > 0 {
				b.WriteString(open + g.posix(depth-1, basic) + shut)
				break
			}
			fallthrough
		case 3:
			if depth > 0 {
				b.WriteString(open + g.posix(depth-1, basic) + or + g.posix(depth-1, basic) + shut)
				break
			}
			fallthrough
		default:
			b.WriteString(g.atom())
		}
		if depth == topDepth && g.IntN(30) == 0 {
			b.WriteString(pick(g, `\<`, `\>`, `\b`, `\B`, "\\`", `\'`))
		}
		if g.IntN(30) == 0 {
			b.WriteString(pick(g, `\1`, "()", "[", "(", ")", "{", "}", "*", "+", "a{2", "a{x}", "a{2,1}", "[b-a]", "[[:foo:]]", "[[.a.]]", "[[=a=]]",
				"[[.ab.]]", "(|a)", "a|", `\a`, `\n`, `\d`, "a**", "[a", "[[:alpha:", "[_-z]", "[Z-a]", "[a-c-e]", "a{3}{2}", "[[.-.]]", `\{`, "a+?", "[--/]", "[%--]", `[\n]`, "(a)|b\\1", "(a|b)\\1", "(.)(.)\\2\\1", "()", "a{1,2}{2}", "[^-a]", "[]-a]", "[a-z-9]", "[[:alnum:]_.-]", "(^|@)", "(a|ab)(c|bcd)", "\\.", "\\$", "\\^", "[$^]", "a{0}", "(a){0}", "(ab|a)(bc)?", "x{1,300}", "[é]"))
		}
		if g.IntN(4) == 0 {
			q := pick(g, "*", "*", plus, "?", brace+"2"+close, brace+"1,2"+close, brace+"0,1"+close, brace+"2,"+close, brace+"0"+close)
			if basic && q == "?" {
				q = `\?`
			}
			b.WriteString(q)
		}
	}
	if depth == topDepth && g.IntN(3) == 0 {
		b.WriteString(pick(g, "$", "$", "$", "^*", "$*", "^", "$^"))
	}
	return b.String()
}

// pcre makes a pattern for pcre2_compile(3). It repeats no group zero times: with a circumflex in such a group PCRE2
// 10.42 takes the pattern for one that only matches at the start of a line. And no group refers back to itself: with
// a circumflex in it PCRE2 then finds less than there is.
func (g *generator) pcre(depth int) string {
	var b strings.Builder
	if g.IntN(4) == 0 {
		b.WriteString("^")
	}
	for range 1 + g.IntN(3) {
		switch k := g.IntN(12); {
		case k < 4 && depth > 0:
			open := pick(g, "(", "(", "(", "(", "(?:", "(?>", "(?=", "(?!", "(?i:", "(?-i:", "(?s-i:", "(?<n>", "(?|", "(?x: ", "(?n:", "(?xx:", "(?^:", "(?U:", "(?m:", "(*atomic:", "(*nla:", "(*positive_lookahead:")
			b.WriteString(open + g.pcre(depth-1))
			if g.IntN(3) == 0 {
				b.WriteString("|" + g.pcre(depth-1))
			}
			b.WriteString(")")
		case k == 4:
			b.WriteString(pick(g, `\d`, `\D`, `\b`, `\B`, `\A`, `\Z`, `\z`, `\x61`, `\141`, `\x{62}`, `\N`, `\h`, `\H`, `\v`, `\R`, `\Qa.b\E`, `\Q.\E`, "[\\d_]", `[\w.]`, `[^\s]`, `[\x61-\x63]`,
				`\G`, `(?<=a)`, `(?<!a)`, `(?<=ab|c)`, `(?<=^|@)`, `(?<!\w)`, `(?<=a(?=b))`, `(?<!(?:a|bc)\b)`, `(*plb:o)`, `(?<=[^.]{2})`, `\K`, `(?:a\Kb|\K)`, `[^\W\d]`, `[[:^digit:]\n]`, `[^[:^alpha:]]`, `\Q\E`, `[\x{41}-Z]`, `\ `, `[ -~]`, `\o{101}`, `(?<=a\Q.b\E)`, "(?#note)", "(?i)", "(?-i)", `[a\-z]`, `[[:^alpha:]]`, `[[:word:]]`, `\p{L}`, `\P{Lu}`, `\pN`, `[\p{Lu}1]`, `\X`, `\C`, `\t`, `\e`, `\cA`, `[\Q]\E]`))
		case k == 5 && g.IntN(3) == 0:
			b.WriteString(pick(g, `(a|b)\g{-1}`, `(a)?\g{-1}`, `(b|c)\g1`, `(.)\g{-1}`, `(?1)`, `(?R)?`, `(?<q>a|b)\k<q>`, `(?<w>.)(?P=w)`, `(?(1)a|b)`, `(a)?(?(1)b|c)`, `(?(?=a)ab|.)`, `(?(DEFINE)(?<d>[ab]))(?&d)`,
				`(\((?:[^()]|(?1))*\))`, `(a(?1)?b)`, `(?-1)`, `(?+1)(a)`, `(?|(a)|(b))\g{-1}`, `(?(R)a|b)`, `(?(<n>)a|b)`, `\g<1>`, `(?>a*)b`, `a++b`, `(?:a|ab)++c`, `(?P<p>a)(?P>p)`, `(?'t'a)\k't'\k{t}`,
				`(?<l>a|b(?&l)c)`, `(?(R1)a|b(?1)?)`, `(?(?!a)\w|ab)`, `(?(?<=a)b|c)`, `^(?:(.)(?=.*\g{-1}))+`, `(.)(.)?\g{-1}?\g{-2}`, `(?:a|b)*+c`, `(?>a|ab)(?:c|bc)`, `(a(?:b|(?1))*+c)`, `\b(\w+)\W+\g-1\b`, `(?<y>.)(?!\k<y>)`,
				`(?:(a)|b)*\g{-1}`, `(a*)*`, `(a*)+b`, `(?:a?)*?b`, `(?:(?=(\w))a)*`, `(a|ab)(c|bcd)(d*)`, `(?(<k>)a|b)(?<k>c)?`, `(?=(a+))\g{-1}b`, `(?i)a(?-i)b`, `a(?i)b|c`, `(?:(?i)a)b`, `(?<=(a))\g{-1}`, `(?!(a)b)\w\g{-1}?`, `(?|(a)(b)|(c))(d)?\g{-1}?`))
		case k == 6 && g.IntN(6) == 0:
			b.WriteString(pick(g, "(", ")", "[", "*", "+", "?", "a{2,1}", "{", "}", "a{,2}", "a{2", "[b-a]", `[a-\d]`, `[\d-z]`, "[[:foo:]]", "[[.a.]]", `\y`, `\g`, `\k`, "(?<1>a)", "(?", "(?z)", `\x{100}`,
				`\400`, `\8`, `\c`, `(?<=a*)`, `(?<=a|bc)`, `(?<=(?:a|bc))`, "(?(1)a|b|c)", `\p{Foo}`, "[:alpha:]", "(?<m>a)(?<m>b)", "^*", "$*", `\b+`, `\A*`, "(?=a)*", "(?!a)?", "a**", "a+*", "a{2}{3}", "x{0}", "(a){0}", "]", "[]", "[^]", "[^]]", "(?i)*",
				`\o{141}`, `\o{9}`, `[\b]`, `[\B]`, `[a-]`, `[-a]`, `[a-c-e]`, "(?i", `\E`, "a\\E*", "(?#", "(?^i:a)", "(?-x-i)", `\L`, `[[:<:]]a`, `a[[:>:]]`, `\12`, `(?P=x)`, `(?2)`, `(?-3)`, "(*FAIL)", "[[:alpha:]-z]", "(?J)(?<m>a)(?<m>b)", `\gz`, `\N{2}`, `[a-\x62]`, `[\Qa-c\E]`, `[a-\Qc\E]`))
		default:
			b.WriteString(g.atom())
		}
		if g.IntN(4) == 0 {
			b.WriteString(pick(g, "*", "+", "?", "{2}", "{1,2}", "{0,1}", "{2,}", "*?", "+?", "??", "*+", "{1,2}?"))
		}
	}
	if g.IntN(5) == 0 {
		b.WriteString("$")
	}
	if g.IntN(12) == 0 {
		b.WriteString("|" + g.pcre(min(depth, 1)))
	}
	return b.String()
}
