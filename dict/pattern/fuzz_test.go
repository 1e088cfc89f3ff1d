package pattern

import (
	"errors"
	"testing"

	"postraft/dict"
)

// fuzz compiles a text and looks a key up, and checks what must hold of any.
func fuzz(f *testing.F, typ string, seeds ...string) {
	for _, s := range seeds {
		f.Add(s, "abc@example.com")
		f.Add(s, "10.1.2.3")
	}
	f.Fuzz(func(t *testing.T, text, key string) {
		_, strict := Compile(typ, []byte(text))
		r, warnings, err := CompileLenient(typ, []byte(text))
		if err != nil {
			return // a line that is too long
		}
		if (strict == nil) != (len(warnings) == 0) {
			t.Fatalf("strict: %v, lenient: %v", strict, warnings)
		}
		m, err := r.Match([]byte(key), 0)
		switch {
		case err != nil && !errors.Is(err, dict.ErrRetry) && !errors.Is(err, dict.ErrConfig):
			t.Fatal(err)
		case err != nil:
		case m.Found != (m.Line > 0):
			t.Fatalf("%+v", m)
		}
	})
}

func FuzzCIDR(f *testing.F) {
	fuzz(f, dict.TypeCIDR, "10.0.0.0/8 a\nif !10.1.0.0/16\n! ::/0 b\nendif\n[::1]/128 c\n", "1.2.3.4\n x\n")
}

func FuzzRegexp(f *testing.F) {
	fuzz(f, dict.TypeRegexp, "/^(a|ab)*[^[:digit:]x-]{1,3}\\<$/!/b/ $1\n", "if /a\\(b\\)*\\{2\\}/x\n/(.)\\1/i ${1}x\nendif\n", "/(|a)+[]a]\\w/m $$\n")
}

func FuzzPCRE(f *testing.F) {
	fuzz(f, dict.TypePCRE, "/(?<n>a|b)\\k<n>(?=c)(?!d)x++[^\\d\\]]/ $1\n", "/(?(1)a|b)(\\((?:[^()]|(?1))*\\))(?|(a)|(b))/x ${1}\n", "/(?<=ab|c)\\K\\Q.*\\E\\x{61}(?i:z)*?$/msAEU y\n", "/(?R)?(a*)*\\R\\X(?>b)/ x\n")
}
