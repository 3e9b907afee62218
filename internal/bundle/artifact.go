package bundle

import (
	"fmt"
	"regexp"
	"slices"

	"banger"
)

// Names, files and releases become file names, terminal text and kernel
// arguments: they are refused unless plain. A leading dot or dash is not.
var (
	plain  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+~-]{0,127}$`)
	osName = regexp.MustCompile(`^[\x20-\x7e]{0,128}$`)
)

func validateArtifact(a banger.BundleArtifact) error {
	switch {
	case !slices.Contains(kinds, a.Kind) && !slices.Contains(optional, a.Kind):
		return fmt.Errorf("unknown kind %q", a.Kind)
	case !plain.MatchString(a.Name):
		return fmt.Errorf("bad name %q", a.Name)
	case !plain.MatchString(a.File) || a.File == banger.BundleManifest:
		return fmt.Errorf("bad file name %q", a.File)
	case a.Size <= 0:
		return fmt.Errorf("%s: bad size %d", a.File, a.Size)
	case !banger.Digest("sha256:" + a.SHA256).Valid():
		return fmt.Errorf("%s: bad digest %q", a.File, a.SHA256)
	case !plain.MatchString(a.Release):
		return fmt.Errorf("%s: bad kernel release %q", a.File, a.Release)
	case !osName.MatchString(a.OS):
		return fmt.Errorf("%s: bad operating system name %q", a.File, a.OS)
	}
	return nil
}
