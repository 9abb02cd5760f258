// The lexer of CREATE MODEL: text to tokens. Invariant: every call moves on, or has met the end.
// Called by model_sql_read.c.
#include "common/model_parts.h"
#include "common/model_sql.h"

static void count_lines(struct sql_lexer *lexer, const char *from) {
    for (const char *p = from; p < lexer->at; p++) {
        lexer->line += *p == '\n';
    }
}

// scan reads one token or a piece of white space (-1) and moves lexer->at behind it.
static int scan(struct sql_lexer *lexer) {
    const char *YYMARKER;
    /*!re2c
        re2c:define:YYCTYPE = "unsigned char";
        re2c:define:YYCURSOR = lexer->at;
        re2c:yyfill:enable = 0;
        re2c:flags:input = default;

        end     = "\x00";
        letter  = [A-Za-z_\x80-\xff];
        quoted  = ['] ([^'\x00] | [']['])* ['];
        back    = [`] ([^`\x00] | [`][`])+ [`];
        double  = ["] ([^"\x00] | ["]["])+ ["];

        end                                    { lexer->at--; return 0; }
        [ \t\r\n\f\v]+                         { return -1; }
        "--" [^\n\x00]*                        { return -1; }
        "/*" ([^*\x00] | [*]+ [^*/\x00])* [*]+ "/" { return -1; }
        "/*"                                   { return SQL_OPEN_COMMENT; }

        'create'                               { return SQL_CREATE; }
        'or'                                   { return SQL_OR; }
        'replace'                              { return SQL_REPLACE; }
        'temporary'                            { return SQL_TEMPORARY; }
        'model'                                { return SQL_MODEL; }
        'if'                                   { return SQL_IF; }
        'not'                                  { return SQL_NOT; }
        'exists'                               { return SQL_EXISTS; }
        'input'                                { return SQL_INPUT; }
        'output'                               { return SQL_OUTPUT; }
        'comment'                              { return SQL_COMMENT; }
        'with'                                 { return SQL_WITH; }
        'null'                                 { return SQL_NULL; }
        'row'                                  { return SQL_ROW; }
        'metadata'                             { return SQL_METADATA; }
        'virtual'                              { return SQL_VIRTUAL; }

        letter (letter | [0-9$])*              { return SQL_NAME; }
        [0-9]+ ([.][0-9]+)?                    { return SQL_NUMBER; }
        quoted                                 { return SQL_STRING; }
        back                                   { return SQL_QUOTED; }
        double                                 { return SQL_QUOTED; }
        [']                                    { return SQL_OPEN_STRING; }
        [`"]                                   { return SQL_OPEN_NAME; }

        "("                                    { return SQL_LEFT; }
        ")"                                    { return SQL_RIGHT; }
        ","                                    { return SQL_COMMA; }
        "="                                    { return SQL_EQUALS; }
        "<"                                    { return SQL_LESS; }
        ">"                                    { return SQL_GREATER; }
        ";"                                    { return SQL_SEMICOLON; }
        "."                                    { return SQL_DOT; }
        *                                      { return SQL_ILLEGAL; }
    */
}

int sql_lex(struct sql_lexer *lexer, struct sql_token *token) {
    for (;;) {
        const char *from = lexer->at;
        int line = lexer->line;
        int kind = scan(lexer);
        count_lines(lexer, from);
        if (kind >= 0) {
            *token = (struct sql_token){.text = {from, (size_t)(lexer->at - from)}, .line = line};
            return kind;
        }
    }
}
