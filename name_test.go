package banger_test

import (
	"regexp"
	"strings"
	"testing"

	"banger"
)

func TestValidName(t *testing.T) {
	for _, n := range []string{"web", "a", "1", "brave-otter", "x--y", "cafe", "deadbee", "deadbeef1", "deadbeeg", strings.Repeat("a", 63)} {
		if err := banger.ValidName(n); err != nil {
			t.Errorf("%q: %v", n, err)
		}
	}
	for _, n := range []string{"", "-", "-a", "a-", "Web", "a.b", "a_b", "a b", "a\x00", "ü", "../x", "localhost", "host", "deadbeef", "01234567", strings.Repeat("a", 64), strings.Repeat("é", 1000)} {
		err := banger.ValidName(n)
		if e := banger.AsError(err); e == nil || e.Code != banger.Invalid || e.Remedy == "" || len(e.Message) > 600 {
			t.Errorf("%q: %v", n, err)
		}
	}
}

func FuzzValidName(f *testing.F) {
	f.Add("web-1")
	f.Add("deadbeef")
	label := regexp.MustCompile(`\A[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\z`)
	f.Fuzz(func(t *testing.T, n string) {
		if banger.ValidName(n) == nil && (!label.MatchString(n) || banger.VMID(n).Valid()) {
			t.Errorf("%q passed", n)
		}
	})
}
