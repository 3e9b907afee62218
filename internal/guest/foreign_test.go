package guest_test

import (
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"banger/internal/guest"
	"banger/internal/guestapi"
)

// printable reports whether s may go to a terminal.
func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) })
}

func FuzzForeignError(f *testing.F) {
	f.Add("ssh: disconnect, reason 2: bye\x1b]0;title\a")
	f.Add("\xff\xfe\u202e")
	f.Add(strings.Repeat("ü", 1000))
	f.Fuzz(func(t *testing.T, s string) {
		err := guest.Foreign(errors.Join(io.EOF, errors.New(s)))
		if !printable(err.Error()) || len(err.Error()) > 8<<10 {
			t.Errorf("%q became %q", s, err)
		}
		if !errors.Is(err, io.EOF) {
			t.Error("the cause is lost")
		}
	})
}

func FuzzParseExit(f *testing.F) {
	f.Add("exit-status", ssh.Marshal(struct{ Code uint32 }{1}))
	f.Add("exit-signal", ssh.Marshal(struct {
		Signal string
		Core   bool
		M, L   string
	}{"KILL", false, "", ""}))
	f.Add("exit-status", []byte("00000")) // a byte too many
	f.Add("exit-signal", []byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, name string, payload []byte) {
		exit, ok := guest.ParseExit(name, payload)
		if !printable(exit.Signal) || exit.Code < 0 || len(exit.Signal) > 16 || !ok && exit != (guest.Exit{}) {
			t.Errorf("%q %x became %+v, %v", name, payload, exit, ok)
		}
	})
}

func FuzzParseStatus(f *testing.F) {
	for _, s := range []guestapi.Status{{}, {Version: 1, Launch: "0123456789abcdef", System: "running"}, {System: "\x1b[2J"}} {
		b, err := json.Marshal(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, body []byte) {
		s, err := guest.ParseStatus(body, nil)
		if err != nil && (s != guestapi.Status{} || !printable(err.Error())) {
			t.Errorf("%q: %+v, %v", body, s, err)
		}
		if !printable(s.System) || !printable(s.Launch) {
			t.Errorf("%q was taken", body)
		}
	})
}
