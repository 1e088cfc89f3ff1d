package dict

import "strings"

// Separators are the bytes that part the words of a list in main.cf (CHARS_COMMA_SP).
const Separators = ", \t\r\n"

// NextWord returns the first word of a list in main.cf and what comes behind it. Text in braces stays together,
// braces and all (mystrtokq.c). The word is empty at the end of the list.
func NextWord(list string) (word, rest string) {
	list = strings.TrimLeft(list, Separators)
	depth := 0
	for i := 0; i < len(list); i++ {
		switch c := list[i]; {
		case c == '{':
			depth++
		case c == '}' && depth > 0:
			depth--
		case depth == 0 && strings.IndexByte(Separators, c) >= 0:
			return list[:i], list[i+1:]
		}
	}
	return list, ""
}

// Unbrace returns what is between the braces that enclose all of a word, without white space around it, and any other
// word as it is. So a word of a list can hold separators.
func Unbrace(word string) string {
	if n := Balanced(word); n == 0 || n < len(word) {
		return word
	}
	return strings.Trim(word[1:len(word)-1], Separators[1:])
}

// Balanced returns the length of the text in braces at the start of s, braces included; 0 if there is none (balpar.c).
func Balanced(s string) int {
	if s == "" || s[0] != '{' {
		return 0
	}
	depth := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return 0
}

// Words returns all words of a list.
func Words(list string) (words []string) {
	for {
		var word string
		if word, list = NextWord(list); word == "" {
			return words
		}
		words = append(words, word)
	}
}
