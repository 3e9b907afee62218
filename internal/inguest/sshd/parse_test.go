package sshd_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"banger/internal/inguest/sshd"
)

func isRoot() bool { return os.Geteuid() == 0 }

const passwd = `root:x:0:0:root:/root:/bin/bash
broken:x:zero:0::/:/bin/sh
short:x:1:1
dev:x:1000:1001:,,,:/home/dev:/usr/bin/zsh
bare:x:2:2:::
huge:x:4294967295:1::/:/bin/sh
`

func TestParsePasswd(t *testing.T) {
	for name, want := range map[string]sshd.Account{
		"root": {Name: "root", Home: "/root", Shell: "/bin/bash"},
		"dev":  {Name: "dev", UID: 1000, GID: 1001, Home: "/home/dev", Shell: "/usr/bin/zsh"},
		"bare": {Name: "bare", UID: 2, GID: 2, Home: "/", Shell: "/bin/sh"},
	} {
		if got, ok := sshd.ParsePasswd(passwd, name); !ok || got != want {
			t.Errorf("%s: %+v %v, want %+v", name, got, ok, want)
		}
	}
	for _, name := range []string{"broken", "short", "huge", "nosuch", "", "x"} {
		if got, ok := sshd.ParsePasswd(passwd, name); ok {
			t.Errorf("%q: %+v", name, got)
		}
	}
}

func TestParseGroups(t *testing.T) {
	text := "tty:x:5:\nsudo:x:27:dev,root\ndocker:x:999:root,developer\naudio:x:29:x,dev\nown:x:1001:dev\nbad:x:-1:dev\n"
	got := sshd.ParseGroups(text, sshd.Account{Name: "dev", UID: 1000, GID: 1001})
	if want := []uint32{1001, 27, 29}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestParseEnvironment(t *testing.T) {
	got := sshd.ParseEnvironment("# words\nPATH=\"/a:/b\"\nexport LANG='C'\n not a line\nEMPTY=\n1X=no\nA=\"half\n")
	if want := []string{"PATH=/a:/b", "LANG=C", "EMPTY=", `A="half`}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func FuzzParsePasswd(f *testing.F) {
	f.Add(passwd, "dev")
	f.Add("::::::", "")
	f.Fuzz(func(t *testing.T, text, name string) {
		a, ok := sshd.ParsePasswd(text, name)
		if ok && (a.Name != name || a.Shell == "" || a.Home == "" || strings.ContainsAny(a.Home+a.Shell, "\x00\n:")) {
			t.Errorf("%+v", a)
		}
		for _, gid := range sshd.ParseGroups(text, sshd.Account{Name: name}) {
			if gid == 1<<32-1 {
				t.Error("group -1")
			}
		}
	})
}

func FuzzParseEnvironment(f *testing.F) {
	f.Add("A=\"b\"\nexport C='d'")
	f.Fuzz(func(t *testing.T, text string) {
		for _, kv := range sshd.ParseEnvironment(text) {
			if strings.ContainsRune(kv, 0) || strings.HasPrefix(kv, "=") {
				t.Errorf("%q", kv)
			}
		}
	})
}

func FuzzParsePTY(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x05xterm\x00\x00\x00\x50\x00\x00\x00\x18\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x06\x35\x00\x00\x00\x01\x00"))
	f.Fuzz(func(t *testing.T, payload []byte) {
		sshd.ParsePTY(payload)
		sshd.ParseWindow(payload)
	})
}
