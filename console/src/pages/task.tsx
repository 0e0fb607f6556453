export function TaskPage(_: any): any { return null; }
