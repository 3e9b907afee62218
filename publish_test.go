package banger_test

import (
	"testing"

	"banger"
)

func TestParsePublish(t *testing.T) {
	for in, want := range map[string]string{
		"8080:80":           "127.0.0.1:8080:80",
		"0.0.0.0:53:53/udp": "0.0.0.0:53:53/udp",
		"127.0.0.2:1:2/tcp": "127.0.0.2:1:2",
		"":                  "",
		"80":                "",
		"8080:":             "",
		":8080:80":          "",
		"0:80":              "",
		"80:0":              "",
		"80:65536":          "",
		"80:80/sctp":        "",
		"80:80/":            "",
		"::1:80:80":         "",
		"[::1]:80:80":       "",
		"224.0.0.1:80:80":   "",
		"-1:80":             "",
		"+1:80":             "",
	} {
		got, err := banger.ParsePublish(in)
		if want == "" {
			if banger.CodeOf(err) != banger.Invalid {
				t.Errorf("%q: %v, %v", in, got, err)
			}
			continue
		}
		if err != nil || got.String() != want {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
		if again, err := banger.ParsePublish(got.String()); err != nil || again != got {
			t.Errorf("%q read again: %v, %v", got, again, err)
		}
	}
}

func FuzzParsePublish(f *testing.F) {
	f.Add("127.0.0.1:80:80/udp")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := banger.ParsePublish(s)
		if err != nil {
			return
		}
		if again, err := banger.ParsePublish(p.String()); err != nil || again != p {
			t.Errorf("%q became %q, read again %v, %v", s, p, again, err)
		}
	})
}

func TestPublishOverlaps(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"8080:80", "8080:81", true},
		{"8080:80", "127.0.0.1:8080:80", true},
		{"8080:80", "0.0.0.0:8080:80", true},
		{"8080:80", "10.0.0.1:8080:80", false},
		{"8080:80", "8080:80/udp", false},
		{"8080:80", "8081:80", false},
	} {
		a, err1 := banger.ParsePublish(c.a)
		b, err2 := banger.ParsePublish(c.b)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		if a.Overlaps(b) != c.want || b.Overlaps(a) != c.want {
			t.Errorf("%s and %s: %v", a, b, a.Overlaps(b))
		}
	}
}
