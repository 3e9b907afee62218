package bundle_test

import (
	"slices"
	"strings"
	"testing"

	"banger/internal/bundle"
)

func TestParseSources(t *testing.T) {
	const good = `http://mirror.example/debian/ bookworm main Debian
http://mirror.example/debian/ bookworm main Debian
http://mirror.example/debian/ bookworm-updates main Debian
http://mirror.example/security/ bookworm-security main
https://vendor.example/apt bookworm main Vendor
https://vendor.example/apt bookworm stable Debian
https://vendor.example/apt nodistro main Debian
`
	want := []string{
		"deb http://mirror.example/debian/ bookworm main",
		"deb http://mirror.example/debian/ bookworm-updates main",
		"deb http://mirror.example/security/ bookworm-security main",
	}
	if got := bundle.ParseSources(good); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	for name, text := range map[string]string{
		"nothing":         "",
		"another release": strings.ReplaceAll(good, "bookworm", "trixie"),
		"not all suites":  strings.ReplaceAll(good, "bookworm-security", "bookworm-backports"),
		"a disc":          strings.ReplaceAll(good, "http://mirror.example/security/", "cdrom:[Debian]/"),
	} {
		if got := bundle.ParseSources(text); got != nil {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

func FuzzParseSources(f *testing.F) {
	f.Add("http://m/ bookworm main Debian\nhttp://m/ bookworm-updates main\nhttp://m/ bookworm-security main x\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, line := range bundle.ParseSources(text) {
			if len(strings.Fields(line)) != 4 || strings.ContainsAny(line, "[]\n") && !strings.HasPrefix(line, "deb http") {
				t.Errorf("source %q", line)
			}
		}
	})
}
