package launch_test

import (
	"testing"

	"banger/internal/api"
	"banger/internal/cli/launch"
)

func TestJudge(t *testing.T) {
	const v = api.Version
	for _, c := range []struct {
		name    string
		api     int
		running string
		mine    string
		mtime   int64 // the daemon's is 100
		want    string
	}{
		{"same build", v, "a", "a", 200, "use"},
		{"other build, newer", v, "a", "b", 101, "change"},
		{"other build, the same file", v, "a", "b", 100, "use"},
		{"other build, older", v, "a", "b", 99, "use"},
		{"no bangerd of our own", v, "a", "b", 0, "use"},
		{"changed tree, newer", v, "a-dirty", "a-dirty", 101, "change"},
		{"changed tree, the same file", v, "a-dirty", "a-dirty", 100, "use"},
		{"older language, newer file", v - 1, "a", "b", 101, "change"},
		{"older language, older file", v - 1, "a", "b", 99, "refuse"},
		{"newer language", v + 1, "b", "a", 101, "refuse"},
	} {
		got := launch.Judge(api.LockFile{API: c.api, Build: c.running, ExeMtime: 100}, c.mine, c.mtime)
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}
