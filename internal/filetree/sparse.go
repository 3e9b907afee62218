package filetree

import (
	"archive/tar"
	"bytes"
	"fmt"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// archive/tar reads sparse files and cannot write them, so their two headers are
// put together here, in the form that GNU tar calls PAX 1.0.

// An extent is a piece of a file that is no hole.
type extent struct{ at, size int64 }

// maxExtents bounds the map of a sparse file: readers take at most 1 MiB of it.
// What lies beyond is sent with its holes filled.
const maxExtents = 10_000

// extents asks the file system where data lies. One that cannot say has data
// everywhere.
func extents(fd int, size int64) (data []extent) {
	for at := int64(0); at < size; {
		begin, err := unix.Seek(fd, at, unix.SEEK_DATA)
		if err == unix.ENXIO { // nothing but a hole follows
			break
		}
		if err != nil || begin < at || len(data) == maxExtents {
			return append(data, extent{at, size - at})
		}
		if begin >= size { // it grew
			break
		}
		end, err := unix.Seek(fd, begin, unix.SEEK_HOLE)
		if err != nil || end <= begin {
			return append(data, extent{begin, size - begin})
		}
		end = min(end, size)
		data = append(data, extent{begin, end - begin})
		at = end
	}
	return data
}

// holes says whether anything is saved by leaving them out.
func holes(data []extent, size int64) bool {
	for _, e := range data {
		size -= e.size
	}
	return size > 0
}

// block is the unit of tar, bytes.
const block = 512

func padding(n int64) int64 { return (block - n%block) % block }

// maxOctal is the first size that a header's octal field cannot hold.
const maxOctal = 1 << 33

// sparse packs a file with holes.
func (p *packer) sparse(fd int, file, name string, st *unix.Stat_t, data []extent) error {
	var index bytes.Buffer
	all := append(data, extent{st.Size, 0}) // as GNU tar marks a hole at the end
	fmt.Fprintf(&index, "%d\n", len(all))
	length := int64(0)
	for _, e := range all {
		fmt.Fprintf(&index, "%d\n%d\n", e.at, e.size)
		length += e.size
	}
	index.Write(make([]byte, padding(int64(index.Len()))))
	length += int64(index.Len())
	if err := p.tw.Flush(); err != nil {
		return err
	}
	if err := p.sparseHeaders(name, st, length); err != nil {
		return err
	}
	if _, err := p.out.Write(index.Bytes()); err != nil {
		return err
	}
	end := int64(0)
	for _, e := range data {
		p.Options.progress(e.at - end) // what is no work is done at once
		if err := p.content(p.out, fd, file, e.at, e.size); err != nil {
			return err
		}
		end = e.at + e.size
	}
	p.Options.progress(st.Size - end)
	return zeros(p.out, padding(length))
}

// sparseHeaders writes the extended header, which has all that matters, and
// the plain one.
func (p *packer) sparseHeaders(name string, st *unix.Stat_t, length int64) error {
	h := p.header(tar.TypeReg, "GNUSparseFile.0/file", st)
	records := []string{
		"GNU.sparse.major", "1", "GNU.sparse.minor", "0",
		"GNU.sparse.name", name, "GNU.sparse.realsize", strconv.FormatInt(st.Size, 10),
		"mtime", fmt.Sprintf("%d.%09d", st.Mtim.Sec, st.Mtim.Nsec),
		"uid", strconv.Itoa(h.Uid), "gid", strconv.Itoa(h.Gid),
		"size", strconv.FormatInt(length, 10),
	}
	if st.Mtim.Sec < 0 { // a negative fraction is written otherwise; whole seconds do
		records[9] = strconv.FormatInt(st.Mtim.Sec, 10)
	}
	var text strings.Builder
	for i := 0; i < len(records); i += 2 {
		text.WriteString(paxRecord(records[i], records[i+1]))
	}
	body := []byte(text.String())
	body = append(body, make([]byte, padding(int64(text.Len())))...)
	extended, err := rawHeader('x', path.Join("PaxHeaders.0", "file"), 0o644, int64(text.Len()))
	if err != nil {
		return err
	}
	if length >= maxOctal {
		length = 0 // the record counts
	}
	plain, err := rawHeader(tar.TypeReg, h.Name, h.Mode, length)
	if err != nil {
		return err
	}
	for _, b := range [][]byte{extended, body, plain} {
		if _, err := p.out.Write(b); err != nil {
			return err
		}
	}
	return nil
}

// paxRecord is "LENGTH KEY=VALUE\n", the length of all of it.
func paxRecord(key, value string) string {
	rest := len(key) + len(value) + 3 // blank, =, newline
	n := rest + len(strconv.Itoa(rest))
	if m := rest + len(strconv.Itoa(n)); m != n {
		n = m
	}
	return fmt.Sprintf("%d %s=%s\n", n, key, value)
}

// rawHeader is a header block of a kind that archive/tar may not write itself.
func rawHeader(kind byte, name string, mode, size int64) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: size, Format: tar.FormatUSTAR})
	if err != nil {
		return nil, err
	}
	h := b.Bytes()
	h[156] = kind
	copy(h[148:156], "        ")
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return h, nil
}
