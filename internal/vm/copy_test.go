package vm_test

import (
	"strings"
	"testing"

	"banger"
	"banger/internal/guestapi"
	"banger/internal/rawtext"
	"banger/internal/vm"
)

func TestCheckCopy(t *testing.T) {
	for _, c := range []struct {
		copy guestapi.Copy
		ok   bool
	}{
		{guestapi.Copy{Path: "/srv", Name: "."}, true},
		{guestapi.Copy{Path: "", Name: "x", Out: true}, true},
		{guestapi.Copy{Path: "caf\xe9", Name: "caf\xe9"}, true},
		{guestapi.Copy{Path: "/srv", Name: ".", Archive: true}, true},
		{guestapi.Copy{Path: "/srv", Name: ""}, false},
		{guestapi.Copy{Path: "/srv", Name: ".."}, false},
		{guestapi.Copy{Path: "/srv", Name: "a/b"}, false},
		{guestapi.Copy{Path: "/s\x00rv", Name: "."}, false},
		{guestapi.Copy{Path: rawtext.String(strings.Repeat("x", 4096)), Name: "."}, false},
		{guestapi.Copy{Path: "/srv", Name: ".", Archive: true, Out: true}, false},
	} {
		if err := vm.CheckCopy(c.copy); (err == nil) != c.ok || err != nil && banger.CodeOf(err) != banger.Invalid {
			t.Errorf("%+v: %v", c.copy, err)
		}
	}
}
