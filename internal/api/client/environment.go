package client

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"banger"
)

// NamedBundle is the directory of a runtime bundle that the environment of
// whoever asks names by BANGER_RUNTIME_DIR, "" if it names none. It goes along
// with a request, since the daemon has the environment of whoever started it.
// What was named is not passed over: one that is not there is NotFound.
func NamedBundle(env func(string) string) (string, error) {
	const variable = "BANGER_RUNTIME_DIR"
	dir := env(variable)
	if dir == "" {
		return "", nil
	}
	if !filepath.IsAbs(dir) {
		return "", banger.Errorf(banger.Invalid, "%s: %q is not an absolute path", variable, dir).
			WithRemedy("write the whole path, from /, or unset %s", variable)
	}
	dir = filepath.Clean(dir)
	if _, err := os.Stat(filepath.Join(dir, banger.BundleManifest)); errors.Is(err, fs.ErrNotExist) {
		return "", banger.Errorf(banger.NotFound, "no runtime bundle in %s (named by %s)", dir, variable).
			WithRemedy("unset %s, or build one there: banger bundle build --output %s", variable, dir)
	}
	return dir, nil // what else is wrong with it the daemon says
}
