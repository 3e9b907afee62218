package passt_test

import (
	"strconv"
	"testing"

	"banger/internal/network/usernet/passt"
)

func FuzzParsePID(f *testing.F) {
	for _, s := range []string{"123\n", "123", "", "\n", "-1\n", "0\n", "1 2\n", "99999999999999999999\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		pid, ok := passt.ParsePID(text)
		if ok && (pid < 1 || len(text) < 2 || text[len(text)-1] != '\n') {
			t.Errorf("%q is PID %d", text, pid)
		}
		if !ok && len(text) > 1 && string(text) == strconv.Itoa(pid)+"\n" && pid > 0 {
			t.Errorf("%q was refused", text)
		}
	})
}

func TestParsePID(t *testing.T) {
	if pid, ok := passt.ParsePID([]byte("4711\n")); pid != 4711 || !ok {
		t.Errorf("%d, %v", pid, ok)
	}
	if _, ok := passt.ParsePID([]byte("47")); ok {
		t.Error("half a number was taken for one")
	}
}
