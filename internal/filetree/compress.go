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
	c.full <- []byte(streamHeader)
	return c
}

// Decompress reads what Compress wrote. Its memory is bounded whatever comes;
// checksums are passed over, since the way there has its own.
func Decompress(r io.Reader) io.Reader {
	return s2.NewReader(r, s2.ReaderMaxBlockSize(blockSize), s2.ReaderIgnoreCRC())
}

// What s2's framed format begins with, and each chunk of it: a kind, the length
// of what follows (three bytes, little endian), of which the first four are a
// checksum.
const (
	streamHeader    = "\xff\x06\x00\x00S2sTwO"
	chunkHeader     = 8
	chunkCompressed = 0
	chunkAsIs       = 1
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
	for b := range c.full {
		if c.failed() == nil {
			if _, err := c.w.Write(b); err != nil {
				c.mu.Lock()
				c.err = err
				c.mu.Unlock()
			}
		}
		if cap(b) > len(streamHeader) {
			c.empty <- b[:0]
		}
	}
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

// appendChunk appends p, compressed where that makes it smaller, to b, which has
// room for it.
func appendChunk(b, p []byte) []byte {
	kind := byte(chunkCompressed)
	body := s2.Encode(b[chunkHeader:cap(b)], p)
	if len(body) >= len(p) {
		kind = chunkAsIs
		body = b[chunkHeader : chunkHeader+copy(b[chunkHeader:cap(b)], p)]
	}
	length := 4 + len(body)
	b = append(b, kind, byte(length), byte(length>>8), byte(length>>16), 0, 0, 0, 0)
	return b[:chunkHeader+len(body)]
}
