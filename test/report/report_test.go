package main

import (
	"path/filepath"
	"strings"
	"testing"
)

const stream = `# go: downloading something
{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"fine\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:5: report: 3 cases, 0 leaks\n"}
{"Action":"pass","Package":"p","Test":"TestA","Elapsed":0.1}
{"Action":"output","Package":"p","Test":"TestB","Output":"    b_test.go:7: no KVM: here\n"}
{"Action":"output","Package":"p","Test":"TestB","Output":"--- SKIP: TestB (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"TestB"}
{"Action":"output","Package":"p","Test":"TestC","Output":"    c_test.go:9: wrong\n"}
{"Action":"fail","Package":"p","Test":"TestC"}
{"Action":"fail","Package":"p","Elapsed":2}
{"Action":"build-output","ImportPath":"q","Output":"q.go:1: no such thing\n"}
{"Action":"fail","Package":"q"}
{"Action":"skip","Package":"empty"}
`

func TestSummary(t *testing.T) {
	file := filepath.Join(t.TempDir(), "results")
	var out strings.Builder
	if err := run([]string{file}, strings.NewReader(stream), &out); err == nil {
		t.Error("a stream with failures is no error")
	}
	for _, want := range []string{"c_test.go:9: wrong", "no such thing", "# go: downloading", "\n3 cases, 0 leaks\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("output lacks %q:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "fine") {
		t.Errorf("output has the words of a test that passed:\n%s", out.String())
	}
	var sum strings.Builder
	if err := run([]string{"-total", file}, nil, &sum); err != nil {
		t.Fatal(err)
	}
	want := "skipped p TestB: no KVM: here\nfailed p TestC: c_test.go:9: wrong\nfailed q\n1 passed, 2 failed, 1 skipped\n"
	if sum.String() != want {
		t.Errorf("got %q, want %q", sum.String(), want)
	}
}
