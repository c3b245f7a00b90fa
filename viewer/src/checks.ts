// What values out of messages and files must be.

export type Check = (value: unknown) => boolean;

export const whole: Check = (v) => Number.isSafeInteger(v) && (v as number) >= 0;
export const positive: Check = (v) => whole(v) && (v as number) > 0;
export const flag: Check = (v) => typeof v === "boolean";
export const text: Check = (v) => typeof v === "string";
export const finite: Check = (v) => Number.isFinite(v);
export const object: Check = (v) => typeof v === "object" && v !== null && !Array.isArray(v);
export const listOf =
  (check: Check, count?: number): Check =>
  (v) =>
    Array.isArray(v) && v.every(check) && (count === undefined || v.length === count);
export const vector: Check = listOf(finite, 3);
export const oneOf =
  (...values: readonly unknown[]): Check =>
  (v) =>
    values.includes(v);
export const between =
  (low: number, high: number): Check =>
  (v) =>
    finite(v) && (v as number) >= low && (v as number) <= high;
export const either =
  (...checks: readonly Check[]): Check =>
  (v) =>
    checks.some((check) => check(v));
export const orNull = (check: Check): Check => either(oneOf(null), check);

/** An object with these values and no others; those of `more` may be left out. */
export const shaped =
  (shape: Record<string, Check>, more: Record<string, Check> = {}): Check =>
  (v) => {
    if (!object(v)) return false;
    const fields = v as Record<string, unknown>;
    const known = { ...shape, ...more };
    return (
      Object.entries(shape).every(([name, check]) => check(fields[name])) &&
      Object.entries(fields).every(([name, value]) => Object.hasOwn(known, name) && known[name]!(value))
    );
  };
