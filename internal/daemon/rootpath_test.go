package daemon

import "testing"

func TestRootPath(t *testing.T) {
	for exe, want := range map[string]string{
		"/usr/local/bin/bangerd": "/usr/local/bin:/usr/local/lib/banger:/usr/local/lib/banger",
		"/src/bin/bangerd":       "/src/bin:/src/lib/banger:/usr/local/lib/banger",
	} {
		if got := rootPath(exe); got != want {
			t.Errorf("%s: %s", exe, got)
		}
	}
}
