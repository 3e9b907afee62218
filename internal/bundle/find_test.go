package bundle_test

import (
	"path/filepath"
	"testing"

	"banger"
	"banger/internal/bundle"
)

func TestFind(t *testing.T) {
	empty := t.TempDir()
	made := func() string {
		dir := t.TempDir()
		write(t, filepath.Join(dir, banger.BundleManifest), string(text(t, manifest(nil))))
		return dir
	}
	flag, env, config, first, second := made(), made(), made(), made(), made()
	broken := t.TempDir()
	write(t, filepath.Join(broken, banger.BundleManifest), "{")

	for _, tt := range []struct {
		name   string
		search bundle.Search
		dir    string
		code   banger.Code
	}{
		{"flag first", bundle.Search{Flag: flag, Env: env, Config: config, Dirs: []string{first}}, flag, ""},
		{"environment next", bundle.Search{Env: env, Config: config, Dirs: []string{first}}, env, ""},
		{"then configuration", bundle.Search{Config: config, Dirs: []string{first}}, config, ""},
		{"then the first that has one", bundle.Search{Dirs: []string{empty, "/nonexistent", first, second}}, first, ""},
		{"a named one is not passed over", bundle.Search{Env: empty, Dirs: []string{first}}, "", banger.NotFound},
		{"nor is a broken one", bundle.Search{Dirs: []string{broken, first}}, "", banger.HostUnready},
		{"none", bundle.Search{Dirs: []string{empty}}, "", banger.NotFound},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, err := bundle.Find(tt.search)
			if banger.CodeOf(err) != tt.code || b.Dir != tt.dir {
				t.Errorf("%s, %v", b.Dir, err)
			}
		})
	}
	_, err := bundle.Find(bundle.Search{Dirs: []string{"/a/runtime", "/b/lib"}})
	wantCode(t, err, banger.NotFound, "/a/runtime, /b/lib", "banger bundle build")
	_, err = bundle.Find(bundle.Search{Env: empty})
	wantCode(t, err, banger.NotFound, empty, "BANGER_RUNTIME_DIR")
}
