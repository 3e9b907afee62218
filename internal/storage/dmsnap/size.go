package dmsnap

import (
	"fmt"
	"os"

	"banger/internal/storage"
)

// The file is what the kernel's persistent exception store makes of it
// (dm-snap-persistent.c): a header, then areas of one chunk of exceptions and as
// many chunks of data as those are. So its length says how large the disk is.
const (
	chunk   = 4096       // bytes; banger-root asks for 8 sectors
	perArea = chunk / 16 // exceptions in a chunk
	spare   = 1          // chunk: the store is full when it has none left
)

// length is that of the file in which all of a disk of bytes can change: it runs
// full when the host's file system does, and not before.
func length(bytes int64) int64 {
	n := (bytes + chunk - 1) / chunk
	return chunk * (1 + n + (n+perArea-1)/perArea + spare)
}

// size is the disk's, bytes: what length was asked for, in whole chunks.
func size(d storage.Disk) (int64, error) {
	f, err := openOwn(d, os.O_RDONLY)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return 0, err
	}
	n, ok := sizeOf(fi.Size())
	if !ok {
		return 0, fmt.Errorf("%s has %d bytes, which is no disk's length", f.Name(), fi.Size())
	}
	return n, nil
}

func sizeOf(file int64) (bytes int64, ok bool) {
	k := file/chunk - 1 - spare // data and areas
	n := k - (k+perArea)/(perArea+1)
	return n * chunk, n > 0 && length(n*chunk) == file
}
