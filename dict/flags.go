package dict

// Flags are the DICT_FLAG_* bits of Postfix's src/util/dict.h as they travel in proxymap requests and
// replies. Bits without a name here are passed on untouched.
type Flags uint32

const (
	DupWarn      Flags = 1 << 0  // update: keep the old entry and warn
	DupIgnore    Flags = 1 << 1  // update: keep the old entry in silence
	Try0Null     Flags = 1 << 2  // database files: keys without a trailing NUL
	Try1Null     Flags = 1 << 3  // database files: keys with a trailing NUL
	Fixed        Flags = 1 << 4  // the table's keys are fixed strings
	Pattern      Flags = 1 << 5  // the table's keys are patterns
	Lock         Flags = 1 << 6  // lock around each access
	DupReplace   Flags = 1 << 7  // update: replace the old entry
	SyncUpdate   Flags = 1 << 8  // make each update durable
	Debug        Flags = 1 << 9  // log every access; up to Postfix 3.10
	NoRegSub     Flags = 1 << 11 // leave out rules with $number in the result
	NoProxy      Flags = 1 << 12 // not through proxymap
	NoUnauth     Flags = 1 << 13 // refuse tables that anyone may change
	FoldFix      Flags = 1 << 14 // fold keys of Fixed tables
	FoldMul      Flags = 1 << 15 // fold keys of other tables
	OpenLock     Flags = 1 << 16 // exclusive lock from open to close
	BulkUpdate   Flags = 1 << 17 // building a table
	MultiWriter  Flags = 1 << 18 // safe with several writers
	UTF8Request  Flags = 1 << 19 // keys and values shall be UTF-8 when smtputf8_enable=yes
	UTF8Active   Flags = 1 << 20 // whoever holds the table checks and folds UTF-8
	SrcRHSIsFile Flags = 1 << 21 // table source: the right-hand side names files
	Surrogate    Flags = 1 << 22 // the table cannot be opened
)
