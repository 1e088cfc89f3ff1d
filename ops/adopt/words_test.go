package adopt

import (
	"fmt"
	"strings"
	"testing"
)

// TestExpand ensures that references are replaced as Postfix does, and that what is not understood is said to be so.
func TestExpand(t *testing.T) {
	values := map[string]string{"dir": "/etc", "sub": "$dir/sub", "empty": "", "ring": "$ring"}
	for text, want := range map[string]string{
		"hash:$dir/a":              "hash:/etc/a",
		"hash:${dir}/a":            "hash:/etc/a",
		"hash:$(sub)/a":            "hash:/etc/sub/a",
		"$$x":                      "$x",
		"a$unknown-b":              "a-b",
		"${dir?yes}${dir:no}":      "yes",
		"${empty?yes}${none:$dir}": "/etc",
		"a $":                      "NO",
		"${dir":                    "NO",
		"${dir?{a}:{b}}":           "NO",
		"${{a} == {b} ? {c}}":      "NO",
		"$ring":                    "NO",
	} {
		got, ok := expand(text, func(name string) string { return values[name] })
		if !ok {
			got = "NO"
		}
		if got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
	if got := fmt.Sprint(references("$a ${b?$c}${d:{$(e)}} $$no ${f?{$g}:{$h}}")); got != "[a b c d e f g h]" {
		t.Errorf("references: %s", got)
	}
}

// TestExpand_AsPostconf ensures that what is expanded at all is expanded as postconf -x does.
func TestExpand_AsPostconf(t *testing.T) {
	lines := []string{
		"my_dir = /etc/$my_leaf", "my_leaf = x", "my_none =", "virtual_alias_maps = hash:$my_dir/a ${my_none?hash:/no}${my_none:hash:/yes} $$x",
		"canonical_maps = ${my_dir}${my_leaf}$(my_dir),$virtual_alias_maps", "relocated_maps = ${my_leaf?{a}:{b}}", "transport_maps = hash:$default_database_type/${my_leaf}y",
	}
	s, err := Read(t.Context(), newGenuine(t, lines...))
	if err != nil {
		t.Fatal(err)
	}
	expanded := 0
	for name, p := range s.params {
		if !p.set {
			continue
		}
		got, ok := expand(p.raw, s.value)
		if ok {
			expanded++
		}
		if ok && got != p.expanded {
			t.Errorf("%s = %s: %q, postconf says %q", name, p.raw, got, p.expanded)
		}
	}
	if expanded < 6 {
		t.Errorf("%d values were expanded", expanded)
	}
}

// TestMentions ensures that tables are found where they stand in a value, and nothing else is taken for one.
func TestMentions(t *testing.T) {
	for value, want := range map[string]string{
		"hash:/a, proxy:lmdb:/b\tproxy:proxy:cdb:/c":                                   "hash:/a proxy(lmdb:/b) proxy(cdb:/c)",
		"permit_mynetworks check_client_access cidr:/c,reject":                         "cidr:/c",
		"!hash:/not, !!proxy:hash:/b":                                                  "hash:/not proxy(hash:/b)",
		"check_recipient_access { proxy:hash:/r, search_order = x } { inet:a:1, b=c }": "proxy(hash:/r)",
		"{hash:/r}": "hash:/r",
		"smtp:[127.0.0.1]:25 inet:localhost:10 unix:private/x unix:passwd.byname /file lmtp:unix:x": "unix:passwd.byname",
		"pipemap:{hash:/a, inline:{b=c, {d = e f}}}":                                                "pipemap:{hash:/a, inline:{b=c, {d = e f}}} hash:/a<pipe inline:{b=c, {d = e f}}<pipe",
		"proxy:unionmap:{hash:/a,proxy:pipemap:{lmdb:/b pcre:/c}}":                                  "proxy(unionmap:{hash:/a,proxy:pipemap:{lmdb:/b pcre:/c}}) proxy(hash:/a)<unio proxy(pipemap:{lmdb:/b pcre:/c})<unio proxy(lmdb:/b)<unio proxy(pcre:/c)<unio",
		"unionmap:{proxy:hash:/a}":                                                                  "unionmap:{proxy:hash:/a} proxy(hash:/a)<unio",
		"randmap:{a:b, hash:c} static:{x y}":                                                        "randmap:{a:b, hash:c} static:{x y}",
		"hash:$dir/a ${x?hash:/b} $maps":                                                            "hash:$dir/a",
		"hash: proxy: :x {}":                                                                        "",
		"pipemap:{hash:/a":                                                                          "pipemap:{hash:/a",
		"{ a":                                                                                       "",
	} {
		var got []string
		for _, m := range mentions(value) {
			text := m.text
			if m.proxied {
				text = "proxy(" + text + ")"
			}
			if m.compound != nil {
				text += "<" + m.compound.text[:4]
			}
			got = append(got, text)
			if stands := value[m.from:m.to]; !strings.HasSuffix(stands, m.text) || strings.Trim(strings.TrimSuffix(stands, m.text), "proxy:") != "" {
				t.Errorf("%s: %s stands at %q", value, m.text, stands)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s:\n %s, want\n %s", value, strings.Join(got, " "), want)
		}
	}
}

// FuzzMentions ensures that no value makes the search for tables fail.
func FuzzMentions(f *testing.F) {
	f.Add("a, !proxy:pipemap:{hash:/a {b c}} ${x?{y}:{z}} $$ {static:x")
	f.Fuzz(func(t *testing.T, value string) {
		for _, m := range mentions(value) {
			if !strings.HasSuffix(value[m.from:m.to], m.text) {
				t.Errorf("%q: %q stands at %q", value, m.text, value[m.from:m.to])
			}
		}
		references(value)
		expand(value, func(name string) string { return "$" + name })
	})
}
