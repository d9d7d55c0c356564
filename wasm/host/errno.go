package host

import (
	"errors"
	"io/fs"
	"strings"
	"syscall"
)

// errno is an error number of WASI preview 1.
type errno uint16

// Those that the host answers with.
const (
	success      errno = 0
	eACCES       errno = 2
	eAGAIN       errno = 6
	eBADF        errno = 8
	eBUSY        errno = 10
	eDQUOT       errno = 19
	eEXIST       errno = 20
	eFAULT       errno = 21
	eFBIG        errno = 22
	eINTR        errno = 27
	eINVAL       errno = 28
	eIO          errno = 29
	eISDIR       errno = 31
	eLOOP        errno = 32
	eMFILE       errno = 33
	eMLINK       errno = 34
	eNAMETOOLONG errno = 37
	eNFILE       errno = 41
	eNODEV       errno = 43
	eNOENT       errno = 44
	eNOMEM       errno = 48
	eNOSPC       errno = 51
	eNOTDIR      errno = 54
	eNOTEMPTY    errno = 55
	eNOTSOCK     errno = 57
	eNOTSUP      errno = 58
	eNXIO        errno = 60
	eOVERFLOW    errno = 61
	ePERM        errno = 63
	eROFS        errno = 69
	eSPIPE       errno = 70
	eSTALE       errno = 72
	eTXTBSY      errno = 74
	eXDEV        errno = 75
	eNOTCAPABLE  errno = 76
)

// systemErrnos are those of the operating system that guests are told as such;
// all others are eIO.
var systemErrnos = map[syscall.Errno]errno{
	syscall.EACCES: eACCES, syscall.EAGAIN: eAGAIN, syscall.EBADF: eBADF, syscall.EBUSY: eBUSY,
	syscall.EDQUOT: eDQUOT, syscall.EEXIST: eEXIST, syscall.EFBIG: eFBIG, syscall.EINTR: eINTR,
	syscall.EINVAL: eINVAL, syscall.EISDIR: eISDIR, syscall.ELOOP: eLOOP, syscall.EMFILE: eMFILE,
	syscall.EMLINK: eMLINK, syscall.ENAMETOOLONG: eNAMETOOLONG, syscall.ENFILE: eNFILE,
	syscall.ENODEV: eNODEV, syscall.ENOENT: eNOENT, syscall.ENOMEM: eNOMEM, syscall.ENOSPC: eNOSPC,
	syscall.ENOTDIR: eNOTDIR, syscall.ENOTEMPTY: eNOTEMPTY, syscall.ENOTSUP: eNOTSUP,
	syscall.ENXIO: eNXIO, syscall.EOVERFLOW: eOVERFLOW, syscall.EPERM: ePERM, syscall.EROFS: eROFS,
	syscall.ESPIPE: eSPIPE, syscall.ESTALE: eSTALE, syscall.ETXTBSY: eTXTBSY, syscall.EXDEV: eXDEV,
}

// errnoOf returns what a guest is told of an error of the os package.
func errnoOf(err error) errno {
	if err == nil {
		return success
	}
	if system, ok := errors.AsType[syscall.Errno](err); ok {
		if e, ok := systemErrnos[system]; ok {
			return e
		}
		return eIO
	}
	switch {
	// os.Root's own error has no name.
	case strings.HasSuffix(err.Error(), "path escapes from parent"):
		return ePERM
	case errors.Is(err, fs.ErrNotExist):
		return eNOENT
	case errors.Is(err, fs.ErrExist):
		return eEXIST
	case errors.Is(err, fs.ErrInvalid):
		return eINVAL
	case errors.Is(err, fs.ErrClosed):
		return eBADF
	}
	return eIO
}
