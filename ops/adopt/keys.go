package adopt

import (
	"fmt"
	"net/netip"
	"regexp/syntax"
	"strconv"
	"strings"
	"unicode"

	"postraft/dict"
)

// askable reports whether postmap -q - can ask for a key.
func askable(key string) bool { return key != "" && !strings.ContainsAny(key, "\n\x00") }

// otherCase returns a key in capitals or, every other time, with some of them.
func otherCase(key string, n int) string {
	if n%2 == 0 {
		return strings.ToUpper(key)
	}
	up := false
	return strings.Map(func(r rune) rune {
		if up = !up; up {
			return unicode.ToUpper(r)
		}
		return r
	}, key)
}

// altered makes another key of a key, each round another one.
func altered(key string, round int) string {
	local, domain, isAddress := strings.Cut(key, "@")
	switch round % 7 {
	case 0:
		return fmt.Sprintf("x%d%s", round, key)
	case 1:
		return fmt.Sprintf("%s%d", key, round)
	case 2:
		if isAddress {
			return fmt.Sprintf("%s%d@%s", local, round, domain)
		}
		return fmt.Sprintf("n%d@%s", round, key)
	case 3:
		if isAddress {
			return fmt.Sprintf("%s@x%d.%s", local, round, domain)
		}
		return fmt.Sprintf("x%d.%s", round, key)
	case 4:
		cut := round % (len(key) + 1)
		return fmt.Sprintf("%s%d%s", key[:cut], round, key[cut:])
	case 5:
		return fmt.Sprintf("%s+%d", strings.ToUpper(key), round)
	default: // as addresses of clients go
		return netip.AddrFrom4([4]byte{byte(round * 37), byte(round >> 8), byte(round), byte(round * 11)}).String()
	}
}

// ruleKeys makes keys of rules: addresses in, around and out of the networks of a cidr table, and texts that the
// expressions of the others may match, with changes.
func ruleKeys(typ string, text []byte) (keys []string) {
	for line, err := range dict.LogicalLines(strings.NewReader(string(text))) {
		if err != nil || line.Comment || line.Orphan {
			continue
		}
		rule := strings.TrimSpace(string(line.Text))
		if len(rule) > 2 && strings.EqualFold(rule[:2], "if") {
			rule = rule[2:]
		}
		rule = strings.TrimLeft(rule, "! \t\r\v\f")
		if typ == dict.TypeCIDR {
			keys = append(keys, cidrKeys(rule)...)
		} else if expression, ok := delimited(rule); ok {
			for _, s := range samples(expression) {
				keys = append(keys, s, "x"+s, s+"x", strings.ToUpper(s))
				if len(s) > 1 {
					keys = append(keys, s[1:], s[:len(s)-1])
				}
			}
		}
	}
	return keys
}

// cidrKeys are the first and the last address of a network and those before and behind them.
func cidrKeys(rule string) (keys []string) {
	fields := strings.Fields(rule)
	if len(fields) == 0 {
		return nil
	}
	text, bits, _ := strings.Cut(strings.NewReplacer("[", "", "]", "").Replace(fields[0]), "/")
	first, err := netip.ParseAddr(text)
	if err != nil {
		return nil
	}
	n, err := strconv.Atoi(bits)
	if err != nil || n < 0 || n > first.BitLen() {
		n = first.BitLen()
	}
	raw := first.AsSlice()
	for i := n; i < 8*len(raw); i++ {
		raw[i/8] |= 0x80 >> (i % 8)
	}
	last, _ := netip.AddrFromSlice(raw)
	for _, a := range []netip.Addr{first, last, first.Prev(), last.Next(), first.Next()} {
		if a.IsValid() {
			keys = append(keys, a.String())
		}
	}
	return keys
}

// delimited returns what is between the delimiters at the start of a rule.
func delimited(rule string) (expression string, ok bool) {
	if rule == "" {
		return "", false
	}
	for i := 1; i < len(rule); i++ {
		switch rule[i] {
		case '\\':
			i++
		case rule[0]:
			return rule[1:i], true
		}
	}
	return "", false
}

// maxSamples bounds the texts made for one expression.
const maxSamples = 8

// samples makes texts that an expression may match. Of one that is more than Go knows, its literal parts.
func samples(expression string) []string {
	re, err := syntax.Parse(expression, syntax.Perl)
	if err == nil {
		return sample(re)
	}
	var parts []string
	part := ""
	flush := func() {
		if len(part) > 1 {
			parts = append(parts, part)
		}
		part = ""
	}
	for i := 0; i < len(expression); i++ {
		c := expression[i]
		if c == '\\' && i+1 < len(expression) {
			i++
			if c = expression[i]; c >= 'A' {
				flush()
				continue
			}
		} else if strings.IndexByte(`()[]{}|?*+^$.`, c) >= 0 {
			flush()
			if group := strings.HasPrefix(expression[i:], "(?"); group {
				for i++; i+1 < len(expression) && strings.IndexByte("<=!:>", expression[i+1]) >= 0; i++ {
				}
			}
			continue
		}
		part += string(c)
	}
	flush()
	if len(parts) > 1 {
		parts = append(parts, strings.Join(parts, ""))
	}
	return parts[:min(len(parts), maxSamples)]
}

// sample makes texts for a part of an expression, at least one.
func sample(re *syntax.Regexp) []string {
	switch re.Op {
	case syntax.OpLiteral:
		return []string{string(re.Rune)}
	case syntax.OpCharClass:
		for i := 0; i+1 < len(re.Rune); i += 2 {
			for r := re.Rune[i]; r <= re.Rune[i+1] && r < 0x7f; r++ {
				if r > ' ' && r != '"' {
					return []string{string(r)}
				}
			}
		}
		return []string{" "}
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return []string{"a"}
	case syntax.OpCapture:
		return sample(re.Sub[0])
	case syntax.OpStar, syntax.OpQuest:
		return append([]string{""}, sample(re.Sub[0])...)
	case syntax.OpPlus:
		return repeated(sample(re.Sub[0]), 1)
	case syntax.OpRepeat:
		return repeated(sample(re.Sub[0]), re.Min)
	case syntax.OpAlternate:
		var all []string
		for _, sub := range re.Sub {
			all = append(all, sample(sub)[0])
		}
		return all[:min(len(all), maxSamples)]
	case syntax.OpConcat:
		all := []string{""}
		for _, sub := range re.Sub {
			var next []string
			for _, tail := range sample(sub) {
				for _, head := range all {
					if len(next) < maxSamples {
						next = append(next, head+tail)
					}
				}
			}
			all = next
		}
		return all
	default: // places without width
		return []string{""}
	}
}

// repeated returns texts as often as they have to be there, and once more.
func repeated(texts []string, least int) (all []string) {
	for _, s := range texts {
		n := min(least, 100)
		all = append(all, strings.Repeat(s, n), strings.Repeat(s, n+1))
	}
	return all[:min(len(all), maxSamples)]
}
