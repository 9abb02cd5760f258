// The grammar of CREATE MODEL. Another statement is another rule of `statement`, with its own kind
// in common/model.h. Invariant: the actions only call sql_... of model_sql_read.c, which do nothing
// once something failed. A keyword is a name wherever a name can stand and the keyword cannot.
%include {
#include "common/model_parts.h"
#include "common/model_sql.h"

#include <assert.h>
}
%name model_sql
%token_prefix SQL_
%token_type {struct sql_token}
%extra_argument {struct sql_parser *p}
%start_symbol file

%token ILLEGAL OPEN_STRING OPEN_NAME OPEN_COMMENT.
%fallback NAME CREATE OR REPLACE TEMPORARY MODEL IF EXISTS INPUT OUTPUT COMMENT WITH ROW METADATA VIRTUAL.

%syntax_error {
    int want[YYNTOKEN];
    size_t n = 0;
    int name = (int)yy_find_shift_action(SQL_NAME, yypParser->yytos->stateno);
    for (int kind = 0; kind < YYNTOKEN; kind++) {
        int action = (int)yy_find_shift_action((YYCODETYPE)kind, yypParser->yytos->stateno);
        if (action != YY_ERROR_ACTION && (yyFallback[kind] == 0 || action != name)) {
            want[n++] = kind;
        }
    }
    sql_expected(p, yymajor, TOKEN, want, n);
}
%stack_overflow {
    sql_fail(p, p->line, "nested too deep");
}

%type or_replace {bool}
%type if_not_exists {bool}
%type not_null {bool}
%type metadata {bool}
%type type {struct type *}
%type element {struct type *}
%type fields {struct type *}
%type column {struct sql_column}
%destructor type { type_free($$); }
%destructor element { type_free($$); }
%destructor fields { type_free($$); }
%destructor column { type_free($$.type); }

file ::= statements.
statements ::= statement.
statements ::= statements SEMICOLON statement.
statement ::= .
statement ::= create_model.

create_model ::= create_head INPUT LEFT inputs RIGHT OUTPUT LEFT outputs RIGHT model_comment
                 WITH LEFT options RIGHT. { sql_end(p); }
create_head ::= CREATE(C) or_replace(R) temporary MODEL if_not_exists(I) model_name(N).
                 { sql_begin(p, C, N, R, I); }
temporary ::= .
temporary ::= TEMPORARY(T). { sql_temporary(p, T); }
or_replace(A) ::= . { A = false; }
or_replace(A) ::= OR REPLACE. { A = true; }
if_not_exists(A) ::= . { A = false; }
if_not_exists(A) ::= IF NOT EXISTS. { A = true; }
model_name(A) ::= identifier(N). { A = N; }
model_name(A) ::= model_name DOT identifier(N). { A = N; }
identifier(A) ::= NAME(N). { A = N; }
identifier(A) ::= QUOTED(N). { A = N; }

inputs ::= column(C). { sql_add_column(p, &C, false); }
inputs ::= inputs COMMA column(C). { sql_add_column(p, &C, false); }
outputs ::= column(C). { sql_add_column(p, &C, true); }
outputs ::= outputs COMMA column(C). { sql_add_column(p, &C, true); }
column(A) ::= column_name(N) element(T) metadata(M) comment(C).
                 { A = (struct sql_column){.name = N, .comment = C, .type = T, .metadata = M}; }
metadata(A) ::= . { A = false; }
metadata(A) ::= METADATA. { A = true; }
metadata(A) ::= METADATA VIRTUAL. { A = true; }
column_name(A) ::= NAME(N). { A = N; }
column_name(A) ::= QUOTED(N). { A = N; }
element(A) ::= type(T) not_null(U). { A = T; if (A != NULL) { A->not_null = U; } }
type(A) ::= type_name(N). { A = sql_type(p, N, NULL, NULL); }
type(A) ::= type_name(N) LEFT NUMBER(X) RIGHT. { A = sql_type(p, N, &X, NULL); }
type(A) ::= type_name(N) LEFT NUMBER(X) COMMA NUMBER(Y) RIGHT. { A = sql_type(p, N, &X, &Y); }
type(A) ::= type_name(N) LESS element(E) GREATER. { A = sql_generic(p, N, NULL, E); }
type(A) ::= type_name(N) LESS element(K) COMMA element(V) GREATER. { A = sql_generic(p, N, K, V); }
type(A) ::= ROW LESS fields(F) GREATER. { A = F; }
fields(A) ::= column_name(N) element(E). { A = sql_row(p, NULL, N, E); }
fields(A) ::= fields(F) COMMA column_name(N) element(E). { A = sql_row(p, F, N, E); }
type_name(A) ::= NAME(N). { A = N; }
not_null(A) ::= . { A = false; }
not_null(A) ::= NULL. { A = false; }
not_null(A) ::= NOT NULL. { A = true; }
comment(A) ::= . { A = (struct sql_token){.line = 0}; }
comment(A) ::= COMMENT STRING(S). { A = S; }

model_comment ::= comment(C). { sql_comment(p, C); }
options ::= option.
options ::= options COMMA option.
option ::= STRING(K) EQUALS STRING(V). { sql_option(p, K, V); }
