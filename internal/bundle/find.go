package bundle

import (
	"strings"

	"banger"
)

// A Search says where a bundle may lie.
type Search struct {
	// Named by the user, in order of precedence. The first that is not empty
	// is the only place looked in: what was asked for is not passed over.
	Flag   string // with the request: --bundle, an argument, its caller's environment
	Env    string // BANGER_RUNTIME_DIR
	Config string // the configuration file's

	Dirs []string // otherwise the first of these that has a bundle (layout.BundleSearch)
}

// Find opens the bundle that s leads to. NotFound lists the directories that
// were looked in, in order.
func Find(s Search) (banger.Bundle, error) {
	for _, n := range []struct{ dir, by string }{
		{s.Flag, ""}, {s.Env, "BANGER_RUNTIME_DIR"}, {s.Config, "the configuration"},
	} {
		if n.dir == "" {
			continue
		}
		b, err := Open(n.dir)
		if err != nil {
			e := banger.AsError(err)
			if n.by != "" { // what was said with the request needs no telling
				e.Message += " (named by " + n.by + ")"
			}
			return banger.Bundle{}, e
		}
		return b, nil
	}
	for _, dir := range s.Dirs {
		b, err := Open(dir)
		if banger.CodeOf(err) == banger.NotFound {
			continue
		}
		return b, err // also a broken one: to pass it over would boot something else unasked
	}
	return banger.Bundle{}, banger.Errorf(banger.NotFound, "no runtime bundle; looked in %s", strings.Join(s.Dirs, ", ")).
		WithRemedy("banger bundle build")
}
