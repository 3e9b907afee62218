package filetree

import (
	"io"
	"sync"

	"github.com/klauspost/compress/s2"
)

// blockSize bounds a compressed block, and so what a reader keeps of one.
const blockSize = 256 << 10

// Compress returns a writer that compresses a stream for the way; Close ends it
// and leaves w open. The cipher on the way costs an emulated CPU far more than
// this: it is spared all that tar repeats and pads with. What is written is
// compressed while what was written before is on its way to w.
//
// It is the framed format of s2 with checksums of 0: an emulated CPU spends more
// on them than on all else here, and the way has its own.
func Compress(w io.Writer) io.WriteCloser {
	c := &compressor{w: w, full: make(chan []byte, 1), empty: make(chan []byte, 2), ended: make(chan struct{})}
	for range cap(c.empty) {
		c.empty <- make([]byte, 0, chunkHeader+s2.MaxEncodedLen(blockSize))
	}
	go c.send()
	return c
}

// Decompress reads what Compress wrote. Its memory is bounded whatever comes;
// checksums are passed over, since the way there has its own.
func Decompress(r io.Reader) io.Reader {
	return s2.NewReader(r, s2.ReaderMaxBlockSize(blockSize), s2.ReaderIgnoreCRC())
}

// What s2's framed format begins with, and the header of each compressed chunk of
// it: its kind, the length of what follows (three bytes, little endian), of which
// the first four are a checksum.
const (
	streamHeader    = "\xff\x06\x00\x00S2sTwO"
	chunkHeader     = 8
	chunkCompressed = 0
)

// A compressor has a goroutine that writes, until Close.
type compressor struct {
	w           io.Writer
	full, empty chan []byte // chunks to be written, and room for others
	ended       chan struct{}

	mu  sync.Mutex
	err error // of w
}

func (c *compressor) send() {
	defer close(c.ended)
	c.put([]byte(streamHeader))
	for b := range c.full {
		c.put(b)
		c.empty <- b[:0]
	}
}

// put writes b, unless something before it could not be written.
func (c *compressor) put(b []byte) {
	if c.failed() != nil {
		return
	}
	_, err := c.w.Write(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
}

func (c *compressor) failed() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Write returns an error of w's, also that of an earlier Write.
func (c *compressor) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		some := p[:min(len(p), blockSize)]
		b := <-c.empty
		if err := c.failed(); err != nil {
			c.empty <- b
			return n, err
		}
		c.full <- appendChunk(b, some)
		n, p = n+len(some), p[len(some):]
	}
	return n, nil
}

// Close may be called again.
func (c *compressor) Close() error {
	if c.full != nil {
		close(c.full)
		<-c.ended
		c.full = nil
	}
	return c.failed()
}

// appendChunk appends p, which becomes at most as long as s2.MaxEncodedLen says,
// to b, which is empty and has room for it.
func appendChunk(b, p []byte) []byte {
	n := len(s2.Encode(b[chunkHeader:cap(b)], p))
	length := 4 + n
	b = append(b, chunkCompressed, byte(length), byte(length>>8), byte(length>>16), 0, 0, 0, 0)
	return b[:chunkHeader+n]
}
