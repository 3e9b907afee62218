package resolver

import (
	"path/filepath"
	"strings"
)

// PutLines are the commands by which an ordinary user does what Put and a reload do.
func PutLines(k Kind, f File) []string {
	words := []string{"printf", `'%s\n'`}
	for line := range strings.Lines(f.Content) {
		words = append(words, "'"+strings.TrimSuffix(line, "\n")+"'")
	}
	return []string{
		strings.Join(words, " ") + " | sudo install -D -m 644 /dev/stdin " + f.Path,
		"sudo " + strings.Join(Reload(k), " "),
	}
}

// RemoveLines are those for Remove.
func (h Host) RemoveLines(s Setup) []string {
	lines := []string{"sudo rm " + s.File}
	if h.MadeDir(s) {
		lines = append(lines, "sudo rmdir --ignore-fail-on-non-empty "+filepath.Dir(s.File))
	}
	return append(lines, "sudo "+strings.Join(Reload(s.Resolver), " "))
}
