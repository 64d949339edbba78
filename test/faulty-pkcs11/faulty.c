/*
 * A PKCS#11 library for tests, in front of a real one: forwards every call, and makes the faults that a file asks for.
 *
 * The files lie beside this library: `real` is the library behind it (a link), `control` says the faults, and the name of each function that a
 * fault met is appended to `applied`. So nothing has to be put into the environment of the process. `control` is read at each call; a line is
 *
 *   <function or *> [ckr=0x32] [delay_ms=50] [hang] [flip=3] [after=2] [count=1]
 *
 * ckr: the call does not happen and gives this CK_RV. delay_ms: it happens later. hang: it happens when `control` has changed.
 * flip: it happens, and then the lowest bit of that byte of its output is flipped. after, count: only `count` calls, after `after`
 * others; without count, all. The first line that fits decides. Counting begins anew when `control` changes, and
 * when the library is loaded anew.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* PKCS#11 v2.40, 3 "General data types". Pointers and handles are as wide as CK_ULONG where this is used. */
typedef unsigned long CK_ULONG;
typedef CK_ULONG CK_RV;
#define CKR_OK 0UL
#define CKR_GENERAL_ERROR 5UL

/* The functions in the order of CK_FUNCTION_LIST (PKCS#11 v2.40, 3.6), each with the number of its arguments. */
#define FUNCTIONS(F) \
  F(C_Initialize, 1) F(C_Finalize, 1) F(C_GetInfo, 1) F(C_GetFunctionList, 1) F(C_GetSlotList, 3) F(C_GetSlotInfo, 2) \
  F(C_GetTokenInfo, 2) F(C_GetMechanismList, 3) F(C_GetMechanismInfo, 3) F(C_InitToken, 4) F(C_InitPIN, 3) F(C_SetPIN, 5) \
  F(C_OpenSession, 5) F(C_CloseSession, 1) F(C_CloseAllSessions, 1) F(C_GetSessionInfo, 2) F(C_GetOperationState, 3) \
  F(C_SetOperationState, 5) F(C_Login, 4) F(C_Logout, 1) F(C_CreateObject, 4) F(C_CopyObject, 5) F(C_DestroyObject, 2) \
  F(C_GetObjectSize, 3) F(C_GetAttributeValue, 4) F(C_SetAttributeValue, 4) F(C_FindObjectsInit, 3) F(C_FindObjects, 4) \
  F(C_FindObjectsFinal, 1) F(C_EncryptInit, 3) F(C_Encrypt, 5) F(C_EncryptUpdate, 5) F(C_EncryptFinal, 3) F(C_DecryptInit, 3) \
  F(C_Decrypt, 5) F(C_DecryptUpdate, 5) F(C_DecryptFinal, 3) F(C_DigestInit, 2) F(C_Digest, 5) F(C_DigestUpdate, 3) F(C_DigestKey, 2) \
  F(C_DigestFinal, 3) F(C_SignInit, 3) F(C_Sign, 5) F(C_SignUpdate, 3) F(C_SignFinal, 3) F(C_SignRecoverInit, 3) F(C_SignRecover, 5) \
  F(C_VerifyInit, 3) F(C_Verify, 5) F(C_VerifyUpdate, 3) F(C_VerifyFinal, 3) F(C_VerifyRecoverInit, 3) F(C_VerifyRecover, 5) \
  F(C_DigestEncryptUpdate, 5) F(C_DecryptDigestUpdate, 5) F(C_SignEncryptUpdate, 5) F(C_DecryptVerifyUpdate, 5) F(C_GenerateKey, 5) \
  F(C_GenerateKeyPair, 8) F(C_WrapKey, 6) F(C_UnwrapKey, 8) F(C_DeriveKey, 6) F(C_SeedRandom, 3) F(C_GenerateRandom, 3) \
  F(C_GetFunctionStatus, 1) F(C_CancelFunction, 1) F(C_WaitForSlotEvent, 3)

#define A1 CK_ULONG a
#define A2 A1, CK_ULONG b
#define A3 A2, CK_ULONG c
#define A4 A3, CK_ULONG d
#define A5 A4, CK_ULONG e
#define A6 A5, CK_ULONG f
#define A8 A6, CK_ULONG g, CK_ULONG h
#define V1 a
#define V2 V1, b
#define V3 V2, c
#define V4 V3, d
#define V5 V4, e
#define V6 V5, f
#define V8 V6, g, h

#define MEMBER(name, arity) CK_RV (*name)(A##arity);
typedef struct {
  struct { unsigned char major, minor; } version;
  FUNCTIONS(MEMBER)
} CK_FUNCTION_LIST;

typedef struct {
  int met, hang;
  long ckr, delay_ms, flip; /* -1: not asked for */
} fault;

enum { text_bytes_max = 4096, lines_max = 64 };

static CK_FUNCTION_LIST *real_list;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char current[text_bytes_max];
static long seen[lines_max];

static void path_beside(const char *name, char path[text_bytes_max]) {
  Dl_info self;
  if (dladdr((void *)current, &self) == 0) abort();
  const char *slash = strrchr(self.dli_fname, '/');
  snprintf(path, text_bytes_max, "%.*s/%s", slash == NULL ? 1 : (int)(slash - self.dli_fname), slash == NULL ? "." : self.dli_fname, name);
}

static void read_control(char text[text_bytes_max]) {
  char path[text_bytes_max];
  path_beside("control", path);
  FILE *file = fopen(path, "r");
  size_t length = file == NULL ? 0 : fread(text, 1, text_bytes_max - 1, file);
  text[length] = 0;
  if (file != NULL) fclose(file);
}

static long option(const char *word, const char *name, long value) {
  size_t length = strlen(name);
  return strncmp(word, name, length) == 0 ? strtol(word + length, NULL, 0) : value;
}

/* Whether the line asks for a fault in this call of `name`. */
static int fits(char *line, const char *name, long *times, fault *found) {
  char *rest;
  char *word = strtok_r(line, " \t", &rest);
  if (word == NULL || (strcmp(word, "*") != 0 && strcmp(word, name) != 0)) return 0;
  long after = 0, count = 0;
  *found = (fault){ .met = 1, .ckr = -1, .delay_ms = -1, .flip = -1 };
  while ((word = strtok_r(NULL, " \t", &rest)) != NULL) {
    found->ckr = option(word, "ckr=", found->ckr);
    found->delay_ms = option(word, "delay_ms=", found->delay_ms);
    found->flip = option(word, "flip=", strcmp(word, "flip") == 0 ? 0 : found->flip);
    found->hang |= strcmp(word, "hang") == 0;
    after = option(word, "after=", after);
    count = option(word, "count=", count);
  }
  *times += 1;
  return *times > after && (count == 0 || *times <= after + count);
}

static fault meet(const char *name) {
  char text[text_bytes_max], path[text_bytes_max];
  fault found = { 0 };
  pthread_mutex_lock(&mutex);
  read_control(text);
  if (strcmp(text, current) != 0) {
    memset(seen, 0, sizeof seen);
    strcpy(current, text);
  }
  char *rest;
  char *line = strtok_r(text, "\n", &rest);
  for (int i = 0; line != NULL && i < lines_max && !fits(line, name, &seen[i], &found); i += 1, found.met = 0) line = strtok_r(NULL, "\n", &rest);
  if (found.met) {
    path_beside("applied", path);
    FILE *file = fopen(path, "a");
    if (file != NULL) {
      fprintf(file, "%s\n", name);
      fclose(file);
    }
  }
  pthread_mutex_unlock(&mutex);
  return found;
}

static CK_RV before(const char *name, fault *met) {
  char text[text_bytes_max], later[text_bytes_max];
  *met = meet(name);
  if (!met->met) return CKR_OK;
  if (met->delay_ms > 0) usleep((useconds_t)met->delay_ms * 1000);
  read_control(text);
  do {
    if (met->hang) usleep(5000);
    read_control(later);
  } while (met->hang && strcmp(text, later) == 0);
  return met->ckr < 0 ? CKR_OK : (CK_RV)met->ckr;
}

/* The output is a pointer in (session, output, length) of C_GenerateRandom, (session, input, length, output, length) of the others. */
static CK_RV after(CK_RV rv, const fault *met, CK_ULONG output) {
  if (rv == CKR_OK && met->met && met->flip >= 0 && output != 0) ((unsigned char *)output)[met->flip] ^= 1;
  return rv;
}

#define OUTPUT1 0
#define OUTPUT2 0
#define OUTPUT3 b
#define OUTPUT4 0
#define OUTPUT5 d
#define OUTPUT6 0
#define OUTPUT8 0

#define FORWARD(name, arity) \
  static CK_RV faulty_##name(A##arity) { \
    fault met; \
    CK_RV rv = before(#name, &met); \
    return rv == CKR_OK ? after(real_list->name(V##arity), &met, OUTPUT##arity) : rv; \
  }
FUNCTIONS(FORWARD)

#define ENTRY(name, arity) faulty_##name,
static CK_FUNCTION_LIST faulty_list = { { 2, 40 }, FUNCTIONS(ENTRY) };

CK_RV C_GetFunctionList(CK_FUNCTION_LIST **list) {
  char path[text_bytes_max];
  path_beside("real", path);
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  CK_RV (*get)(CK_FUNCTION_LIST **) = library == NULL ? NULL : (CK_RV(*)(CK_FUNCTION_LIST **))dlsym(library, "C_GetFunctionList");
  if (get == NULL || get(&real_list) != CKR_OK) return CKR_GENERAL_ERROR;
  *list = &faulty_list;
  return CKR_OK;
}
